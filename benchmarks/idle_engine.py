"""An engine without torch that does next to nothing, so that what is measured around it is the daemon alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from PIL import Image

from qied.edit import EditSpec
from qied.link.engine_port import Picture
from qied.link.launch import LaunchOrder
from qied.planning.edits.view import View


@dataclass(frozen=True)
class Unit:
    """One step, or the result with the last one."""

    phase: str
    step: int
    steps: int
    preview: Image.Image | None = None
    image: Image.Image | None = None
    ended: None = None


class IdleEdit:
    """Counts the steps of an edit and returns a picture of one colour."""

    def __init__(self, spec: EditSpec) -> None:
        self._spec = spec
        self._step = 0

    def advance(self) -> Unit:
        """Count one step."""
        if self._step == self._spec.steps:
            colour = (self._spec.seed % 256, 128, 128)
            return Unit("decode", 1, 1, image=Image.new("RGB", (self._spec.width, self._spec.height), colour))
        self._step += 1
        return Unit("denoise", self._step, self._spec.steps)


class IdleEngine:
    """What the step loop needs of an engine."""

    device = "none"
    precision = "fp32"
    model = "builtin"
    budget_bytes = 4_000_000_000
    weights_bytes = 1_000_000
    sweep_room = None

    def views(self, spec: EditSpec, blob: str, size: tuple[int, int]) -> tuple[View, ...]:
        """An edit needs nothing of its pictures."""
        return ()

    def begin(self, spec: EditSpec, pictures: Mapping[str, Picture], scope: str) -> IdleEdit:
        """Begin an edit that ignores its pictures."""
        return IdleEdit(spec)

    def forget(self, scope: str) -> None:
        """Nothing is cached."""

    def device_memory(self) -> None:
        """Nobody competes for memory that is not used."""


def load(order: LaunchOrder, on_progress: Callable[[str, int, int], None]) -> IdleEngine:
    """Load nothing."""
    on_progress("nothing", 1, 1)
    return IdleEngine()
