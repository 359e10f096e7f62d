"""An engine without torch for tests of everything around it: cheap, deterministic, and told by the prompt what to do.

The result is the first picture at the size of the spec, shifted by the seed and a number for each step; passes shift
their boxes of it, or of the canvas. Words in the prompt: ``crash`` ends the process, ``lost`` loses the device,
``hang`` never returns, ``fail`` raises, ``oom`` runs out of memory, ``defect`` raises what nobody expects,
``unencodable`` gives a result that is no picture, ``gate=PATH`` waits at each step until PATH exists, before any other
word is obeyed, ``later=PATH`` at each step of a pass over a box but the first. While the file that QIED_TEST_BROKEN
names exists, the engine cannot be loaded, for the reason that is in it.
"""

from __future__ import annotations

import importlib
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from PIL import Image
from qied_client.errors import JobFailed, OutOfMemory, SetupError

from qied.edit import EditSpec
from qied.link.engine_port import DeviceLost, Picture
from qied.link.launch import LaunchOrder
from qied.planning.edits.view import View


@dataclass(frozen=True)
class Unit:
    phase: str
    step: int
    steps: int
    preview: Image.Image | None = None
    image: Image.Image | None = None
    ended: None = None


class PlainEdit:
    def __init__(self, spec: EditSpec, pictures: Mapping[str, Picture]) -> None:
        self._spec = spec
        size = (spec.width, spec.height)
        self._picture = Image.linear_gradient("L").convert("RGB").resize(size)
        if spec.images:
            self._picture = pictures[spec.images[0]].resize(size, Image.Resampling.LANCZOS)
        if spec.canvas is not None:
            self._picture = pictures[spec.canvas].resize(spec.drawn_size, Image.Resampling.LANCZOS)
        self._step = 0
        self._shift = 0
        self._passes = [None] * (spec.canvas is None) + list(spec.passes)
        self._words = re.sub(r"(gate|later)=\S+", "", spec.prompt)
        self._gate, self._later = (_file(name, spec.prompt) for name in ("gate", "later"))

    def advance(self) -> Unit:
        spec, over = self._spec, self._passes[0]
        steps = spec.steps if over is None else over.own_steps
        if over is not None and self._step:
            _wait_for(self._later)
        self._obey(self._words)
        if self._step == steps:
            self._picture, self._step, self._shift = self._shifted(), 0, 0
            del self._passes[0]
            if self._passes:
                self._picture = self._picture.crop((0, 0, *spec.drawn_size))
                return Unit("decode", 1, 1)
            no_picture = "unencodable" in self._words
            return Unit("decode", 1, 1, image=cast(Image.Image, object()) if no_picture else self._picture)
        self._step += 1
        self._shift = (self._shift * 31 + spec.seed + self._step) % 251
        preview = self._shifted().resize((16, 16)) if spec.preview_every and self._step < steps else None
        return Unit("denoise" if over is None else "redraw", self._step, steps, preview=preview)

    def _shifted(self) -> Image.Image:
        over = self._passes[0]
        box = (0, 0, *self._picture.size) if over is None else over.box
        picture = self._picture.copy()
        picture.paste(picture.crop(box).point(lambda value: (value + self._shift) % 256), box[:2])
        return picture

    def _obey(self, prompt: str) -> None:
        _wait_for(self._gate)
        if "crash" in prompt and self._step == 1:
            os._exit(139)
        if "lost" in prompt and self._step == 1:
            raise DeviceLost("The prompt said so.")
        if "hang" in prompt:
            threading.Event().wait()
        if "fail" in prompt:
            raise JobFailed("The prompt said so.", "Say something else.")
        if "defect" in prompt:
            raise ZeroDivisionError("The prompt said so.")
        if "oom" in prompt:
            raise OutOfMemory("The prompt said so.", "Say something else.")


def _file(name: str, prompt: str) -> Path | None:
    found = re.search(rf"\b{name}=(\S+)", prompt)
    return None if found is None else Path(found[1])


def _wait_for(file: Path | None) -> None:
    while file is not None and not file.exists():
        threading.Event().wait(0.005)


class PlainEngine:
    device = "test"
    precision = "fp32"
    model = "builtin"
    sweep_room = None

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.weights_bytes = 1_000_000

    def views(self, spec: EditSpec, blob: str, size: tuple[int, int]) -> tuple[View, ...]:
        return (View(*spec.drawn_size if blob == spec.canvas else (spec.width, spec.height)),)

    def begin(self, spec: EditSpec, pictures: Mapping[str, Picture], scope: str) -> PlainEdit:
        return PlainEdit(spec, pictures)

    def forget(self, scope: str) -> None:
        pass

    def device_memory(self) -> tuple[int, int] | None:
        """Bytes of its own and free, as the file that QIED_TEST_MEMORY names says at the moment."""
        if "QIED_TEST_MEMORY" not in os.environ:
            return None
        own, free = Path(os.environ["QIED_TEST_MEMORY"]).read_text().split()
        return int(own), int(free)


def load(order: LaunchOrder, on_progress: Callable[[str, int, int], None]) -> PlainEngine:
    on_progress("nothing", 1, 1)
    if (broken := Path(os.environ.get("QIED_TEST_BROKEN", ""))).is_file():
        raise SetupError(broken.read_text(), "Mend it.")
    return PlainEngine(order.budget_bytes or 4_000_000_000)


def load_at_gate(order: LaunchOrder, on_progress: Callable[[str, int, int], None]) -> PlainEngine:
    """The same once the file that QIED_TEST_GATE names exists."""
    while not Path(os.environ["QIED_TEST_GATE"]).exists():
        threading.Event().wait(0.02)
    return load(order, on_progress)


def load_beside_torch(order: LaunchOrder, on_progress: Callable[[str, int, int], None]) -> PlainEngine:
    """The same in a process that has torch."""
    importlib.import_module("torch")
    return load(order, on_progress)
