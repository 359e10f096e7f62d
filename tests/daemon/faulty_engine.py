"""The real engine on a card with real faults, which words in the prompt cause at its second step.

``break the context`` launches a kernel that fails an assertion of the device; ``fill the card`` takes all memory that
torch's allocator may have, in the first attempt of a process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from qied.edit import EditSpec
from qied.engine import serving
from qied.engine.engine import Engine
from qied.link.engine_port import Picture
from qied.link.launch import LaunchOrder
from qied.planning.edits.view import View


class FaultyEdit:
    def __init__(self, edit: Any, prompt: str, engine: FaultyEngine) -> None:
        self._edit = edit
        self._prompt = prompt
        self._engine = engine
        self._units = 0
        self._held: list[torch.Tensor] = []

    def advance(self) -> Any:
        self._units += 1
        if self._units == 3:
            self._cause()
        try:
            return self._edit.advance()
        finally:
            self._held.clear()

    def _cause(self) -> None:
        if "break the context" in self._prompt:
            # Nothing is raised here: the error comes to whatever waits for the card next.
            torch.ones(8, device="cuda")[torch.full((1,), 1 << 20, device="cuda")]
        if "fill the card" in self._prompt and not self._engine.filled:
            self._engine.filled = True
            for size in (1 << 28, 1 << 24, 1 << 20):
                try:
                    while True:
                        self._held.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
                except torch.OutOfMemoryError:
                    continue


class FaultyEngine:
    sweep_room = None

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.filled = False
        self.device, self.precision, self.model = engine.device, engine.precision, engine.model
        self.budget_bytes, self.weights_bytes = engine.budget_bytes, engine.weights_bytes

    def views(self, spec: EditSpec, blob: str, size: tuple[int, int]) -> tuple[View, ...]:
        return self._engine.views(spec, blob, size)

    def begin(self, spec: EditSpec, pictures: Mapping[str, Picture], scope: str) -> FaultyEdit:
        return FaultyEdit(self._engine.begin(spec, pictures, scope), spec.prompt, self)

    def sweep(self, edits: Sequence[Any]) -> list[Any]:
        raise AssertionError("there is no room for sweeps")

    def forget(self, scope: str) -> None:
        self._engine.forget(scope)

    def device_memory(self) -> tuple[int, int] | None:
        return self._engine.device_memory()


def load(order: LaunchOrder, on_progress: Callable[[str, int, int], None]) -> FaultyEngine:
    return FaultyEngine(serving.load(order, on_progress))
