"""The step loop: take orders, pick an edit, do one unit of it, report. One thread owns the engine."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from qied_client.errors import InternalError, JobCancelled, OutOfMemory, QiedError
from qied_client.protocol.messages import Message

from qied.link import messages as w
from qied.scheduling.fair_share import FairShare
from qied.worker.engine import Advanced, DeviceLost, Engine, Running

if TYPE_CHECKING:
    from PIL.Image import Image

_FIRST_UNIT_GUESS_MS = 1
_BEFORE_STEPS = ("encode_prompt", "encode_image", "prepare_steps")


@dataclass(frozen=True)
class Take:
    """Order: an edit whose pictures are decoded."""

    begin: w.Begin
    pictures: Mapping[str, Image]


@dataclass(frozen=True)
class Drop:
    """Order: give an edit up."""

    user: str
    job: str


@dataclass(frozen=True)
class Forget:
    """Order: drop the cache of a scope."""

    scope: str


@dataclass(frozen=True)
class Quit:
    """Order: leave the loop."""


Order = Take | Drop | Forget | Quit


@dataclass
class _Active:
    begin: w.Begin
    edit: Running
    spent: dict[str, float] = field(default_factory=dict)
    step_ms: float = 0.0
    taken_at: float = field(default_factory=time.perf_counter)


Finish = Callable[[w.Begin, "Image", dict[str, float]], None]


class StepLoop:
    """Runs until told to quit. ``report`` and ``finish`` must not block: the engine would wait for them."""

    def __init__(
        self,
        engine: Engine,
        orders: queue.SimpleQueue[Order],
        report: Callable[[Message], None],
        finish: Finish,
        encode_preview: Callable[[Image], bytes],
    ) -> None:
        self._log = structlog.get_logger(part="step loop")
        self._engine = engine
        self._orders = orders
        self._report = report
        self._finish = finish
        self._encode_preview = encode_preview
        self._share = FairShare()
        self._active: dict[str, _Active] = {}

    def run(self) -> None:
        """Take orders, pick, step, report; raises DeviceLost, with nothing reported of the edits that are held."""
        while self._take_orders():
            key = self._share.pick()
            if key is not None:
                self._step(key, self._active[key])

    def _take_orders(self) -> bool:
        """Carry out what has come, waiting for it while nothing is active; returns whether to go on."""
        while True:
            try:
                order = self._orders.get(block=not self._active)
            except queue.Empty:
                return True
            match order:
                case Take(begin, pictures):
                    self._take(begin, pictures)
                case Drop(user, job):
                    self._drop(f"{user}/{job}")
                case Forget(scope):
                    self._engine.forget(scope)
                case Quit():
                    return False

    def _take(self, begin: w.Begin, pictures: Mapping[str, Image]) -> None:
        key = f"{begin.user}/{begin.job}"
        assert key not in self._active, "the scheduler starts a job once"
        try:
            edit = self._engine.begin(begin.spec, pictures, begin.scope)
        except QiedError as error:
            self._report(failure(begin, error))
            return
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 (a defect in one edit must not end its neighbours)
            self._log.exception("an edit could not begin by a defect", job=key)
            self._report(failure(begin, defect(error)))
            return
        self._active[key] = _Active(begin, edit)
        self._share.add(key, group=begin.user, weight=begin.weight, preview=begin.preview)

    def _drop(self, key: str) -> None:
        active = self._active.get(key)
        if active is not None:
            self._remove(key)
            self._report(failure(active.begin, JobCancelled("The job was cancelled.")))

    def _remove(self, key: str) -> None:
        del self._active[key]
        self._share.remove(key)

    def _step(self, key: str, active: _Active) -> None:
        started = time.perf_counter()
        try:
            advance = active.edit.advance()
            preview = b"" if advance.preview is None else self._encode_preview(advance.preview)
        except QiedError as error:
            self._remove(key)
            self._report(failure(active.begin, error))
            return
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 (a defect in one edit must not end its neighbours)
            self._log.exception("an edit failed by a defect", job=key)
            self._remove(key)
            self._report(failure(active.begin, defect(error)))
            return
        milliseconds = (time.perf_counter() - started) * 1000
        self._share.charge(key, max(1, round(milliseconds)))
        active.spent[advance.phase] = active.spent.get(advance.phase, 0.0) + milliseconds
        if advance.phase == "denoise":
            active.step_ms = milliseconds
        self._report(self._stepped(active, advance, milliseconds, preview))
        if advance.image is not None:
            self._remove(key)
            timings = {f"{phase}_ms": round(spent, 3) for phase, spent in active.spent.items()}
            timings["held_ms"] = round((time.perf_counter() - active.taken_at) * 1000, 3)
            self._finish(active.begin, advance.image, timings)

    def _stepped(self, active: _Active, advance: Advanced, milliseconds: float, preview: bytes) -> w.Stepped:
        left = advance.steps - advance.step if advance.phase == "denoise" else 0
        if advance.phase in _BEFORE_STEPS:
            left = active.begin.spec.steps
        remaining = left * (active.step_ms or milliseconds or _FIRST_UNIT_GUESS_MS)
        return w.Stepped(
            user=active.begin.user,
            job=active.begin.job,
            phase=advance.phase,
            step=advance.step,
            steps=advance.steps,
            spent_ms=round(milliseconds),
            remaining_ms=round(remaining),
            preview=preview,
        )


def failure(begin: w.Begin, error: QiedError) -> w.Failed:
    """Report that an edit ended with an error."""
    retry = isinstance(error, OutOfMemory)
    return w.Failed(begin.user, begin.job, error.code, error.message[:500], error.remedy[:500], retry)


def defect(error: Exception) -> InternalError:
    """What a user gets to see of an exception that nobody expected."""
    return InternalError(f"The engine failed: {type(error).__name__}: {error}"[:400], "See the daemon's log.")
