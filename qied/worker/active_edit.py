"""An edit that the step loop holds: its time by phase, and its reports."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qied.link import messages as w
from qied.link.engine_port import AdvancedEdit, Ended, RunningEdit
from qied.worker.carried import NOTHING, Carried

if TYPE_CHECKING:
    pass

_FIRST_UNIT_GUESS_MS = 1
STEP_PHASES = ("denoise", "redraw")
"""Phases whose units are steps: of the pass from noise, and of passes over a region."""


@dataclass
class ActiveEdit:
    """One edit and its order; ``spent`` has milliseconds by phase, ``step_ms`` those of the latest step.

    ``carried`` goes from its inputs to its result around the engine.
    """

    begin: w.Begin
    edit: RunningEdit
    carried: Carried = NOTHING
    spent: dict[str, float] = field(default_factory=dict)
    step_ms: float = 0.0
    steps_done: int = 0
    taken_at: float = field(default_factory=time.perf_counter)

    def stepped(self, advance: AdvancedEdit, by_clock: float, preview: bytes) -> w.Stepped:
        """Count the units that have ended, and report what was done; ``by_clock`` where the engine did not measure."""
        ended = (Ended(advance.phase, advance.step, by_clock),) if advance.ended is None else advance.ended
        for unit in ended:
            self.spent[unit.phase] = self.spent.get(unit.phase, 0.0) + unit.milliseconds
        steps = [unit for unit in ended if unit.phase == "denoise"]
        if any_steps := [unit for unit in ended if unit.phase in STEP_PHASES]:
            self.step_ms = any_steps[-1].milliseconds
        if advance.phase in STEP_PHASES:
            self.steps_done += 1
        milliseconds = sum(unit.milliseconds for unit in ended)
        return w.Stepped(
            user=self.begin.user,
            job=self.begin.job,
            phase=advance.phase,
            step=advance.step,
            steps=advance.steps,
            spent_ms=round(milliseconds),
            remaining_ms=round(self._steps_left() * (self.step_ms or milliseconds or _FIRST_UNIT_GUESS_MS)),
            # The first one has what is done once, too.
            step_ms=next((round(unit.milliseconds) for unit in reversed(steps) if unit.step > 1), None),
            preview=preview,
        )

    def timings(self) -> dict[str, float]:
        """Milliseconds of each phase, and how long the edit was held."""
        timings = {f"{phase}_ms": round(spent, 3) for phase, spent in self.spent.items()}
        timings["held_ms"] = round((time.perf_counter() - self.taken_at) * 1000, 3)
        return timings

    def _steps_left(self) -> int:
        """Steps to the end, of all passes."""
        spec = self.begin.spec
        return max(0, spec.first_steps + sum(each.own_steps for each in spec.passes) - self.steps_done)
