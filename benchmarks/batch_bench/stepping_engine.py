"""An engine without torch whose steps take as long as those of a megapixel on a good card."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from idle_engine import IdleEdit, IdleEngine, Unit

from qied.edit import EditSpec
from qied.link.engine_port import Picture
from qied.link.launch import LaunchOrder

STEP_S = 0.1


class SteppingEdit(IdleEdit):
    """Waits for each step."""

    def advance(self) -> Unit:
        """One step."""
        time.sleep(STEP_S)
        return super().advance()


class SteppingEngine(IdleEngine):
    """Makes edits whose steps take their time."""

    def begin(self, spec: EditSpec, pictures: Mapping[str, Picture], scope: str) -> SteppingEdit:
        """Begin an edit that ignores its pictures."""
        return SteppingEdit(spec)


def load(order: LaunchOrder, on_progress: Callable[[str, int, int], None]) -> SteppingEngine:
    """Load nothing."""
    on_progress("nothing", 1, 1)
    return SteppingEngine()
