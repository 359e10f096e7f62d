"""An engine without torch whose steps take as long as on a fast card, and show what forms."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from idle_engine import IdleEdit, IdleEngine, Unit
from PIL import Image

from qied.edit import EditSpec
from qied.link.engine_port import Picture
from qied.link.launch import LaunchOrder

STEP_S = 0.02
_NOISE = Image.effect_noise((256, 256), 60).convert("RGB")


class PacedEdit(IdleEdit):
    """Waits for each step."""

    def __init__(self, spec: EditSpec) -> None:
        super().__init__(spec)
        self._shows = spec.preview_every

    def advance(self) -> Unit:
        """One step, with a picture where one is due."""
        time.sleep(STEP_S)
        unit = super().advance()
        if unit.image is None and self._shows and unit.step % self._shows == 0:
            return Unit(unit.phase, unit.step, unit.steps, preview=_NOISE)
        return unit


class PacedEngine(IdleEngine):
    """Makes paced edits."""

    def begin(self, spec: EditSpec, pictures: Mapping[str, Picture], scope: str) -> PacedEdit:
        """Begin an edit that ignores its pictures."""
        return PacedEdit(spec)


def load(order: LaunchOrder, on_progress: Callable[[str, int, int], None]) -> PacedEngine:
    """Load nothing."""
    on_progress("nothing", 1, 1)
    return PacedEngine()
