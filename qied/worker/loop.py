"""The step loop: take orders, pick whose turn it is, do one unit of each, report. One thread owns the engine."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog
from qied_client.errors import InternalError, JobCancelled, OutOfMemory, QiedError
from qied_client.protocol.messages import Message

from qied.link import messages as w
from qied.link.engine_port import AdvancedEdit, DeviceLost, EnginePort, Picture, RunningEdit
from qied.scheduling.fair_share import FairShare
from qied.scheduling.sweep import going_together
from qied.worker.active_edit import STEP_PHASES, ActiveEdit
from qied.worker.carried import NOTHING, Carried

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class BeginEdit:
    """Order: an edit whose pictures are decoded; ``carried`` goes from them to the result around the engine."""

    begin: w.Begin
    pictures: Mapping[str, Picture]
    carried: Carried = NOTHING


@dataclass(frozen=True)
class DropEdit:
    """Order: give an edit up."""

    user: str
    job: str


@dataclass(frozen=True)
class DropScope:
    """Order: drop the cache of a scope."""

    scope: str


@dataclass(frozen=True)
class QuitLoop:
    """Order: leave the loop."""


Order = BeginEdit | DropEdit | DropScope | QuitLoop


@dataclass(frozen=True)
class _Shown:
    """What a unit did, with its preview encoded."""

    advance: AdvancedEdit
    preview: bytes


Finish = Callable[[ActiveEdit, "Image"], None]


class StepLoop:
    """Runs until ordered to quit. ``report`` and ``finish`` must not block: the engine would wait for them."""

    def __init__(
        self,
        engine: EnginePort,
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
        self._active: dict[str, ActiveEdit] = {}

    def run(self) -> None:
        """Take orders, pick, step, report; raises DeviceLost, with nothing reported of the edits that are held."""
        while self._take_orders():
            if self._active:
                self._turn(self._whose_turn())

    def _take_orders(self) -> bool:
        """Carry out the orders that have come, waiting for one while nothing is active; returns whether to continue."""
        while True:
            try:
                order = self._orders.get(block=not self._active)
            except queue.Empty:
                return True
            match order:
                case BeginEdit():
                    self._take(order)
                case DropEdit(user, job):
                    self._drop(f"{user}/{job}")
                case DropScope(scope):
                    self._engine.forget(scope)
                case QuitLoop():
                    return False

    def _take(self, order: BeginEdit) -> None:
        begin = order.begin
        key = f"{begin.user}/{begin.job}"
        assert key not in self._active, "the scheduler starts a job once"
        try:
            edit = self._engine.begin(begin.spec, order.pictures, begin.scope)
        except QiedError as error:
            self._report(failure(begin, error))
            return
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 (a defect in one edit must not end its neighbours)
            self._log.exception("an edit could not begin because of a bug", job=key)
            self._report(failure(begin, defect(error)))
            return
        self._active[key] = ActiveEdit(begin, edit, order.carried)
        self._share.add(
            key, group=begin.user, weight=begin.weight, preview=begin.preview, preemptible=begin.preemptible
        )

    def _drop(self, key: str) -> None:
        if key in self._active:
            active = self._remove(key)
            self._report(failure(active.begin, JobCancelled("The job was cancelled.")))

    def _remove(self, key: str) -> ActiveEdit:
        self._share.remove(key)
        return self._active.pop(key)

    def _whose_turn(self) -> list[str]:
        """The edit whose turn it is, and those whose steps go together with its own."""
        order, room = self._share.order(), self._engine.sweep_room
        if room is None:
            return order[:1]
        return order[: going_together([self._active[key].edit.step_needs for key in order], room)]

    def _turn(self, keys: Sequence[str]) -> None:
        """Do one unit of each edit, charge each for its own part, and report."""
        started = time.perf_counter()
        done = [self._shown(outcome) for outcome in self._outcomes([self._active[key].edit for key in keys])]
        by_clock = (time.perf_counter() - started) * 1000 / len(keys)
        reports = [
            unit if isinstance(unit, Exception) else self._active[key].stepped(unit.advance, by_clock, unit.preview)
            for key, unit in zip(keys, done, strict=True)
        ]
        spent = [report.spent_ms if isinstance(report, w.Stepped) else 0 for report in reports]
        self._share.charge_together(dict(zip(keys, spent, strict=True)))
        together = len(keys)
        for key, unit, report in zip(keys, done, reports, strict=True):
            if isinstance(report, Exception):
                self._fail(key, report)
                continue
            counted = report.phase in STEP_PHASES
            self._report(replace(report, together=together) if counted else report)
            together = 0 if counted else together
            if isinstance(unit, _Shown) and unit.advance.image is not None:
                self._finish(self._remove(key), unit.advance.image)

    def _outcomes(self, edits: Sequence[RunningEdit]) -> Sequence[AdvancedEdit | Exception]:
        """Do one unit of each edit; raises DeviceLost."""
        try:
            return [edits[0].advance()] if len(edits) == 1 else self._engine.sweep(edits)
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 (a defect in one edit must not end its neighbours)
            return [error] * len(edits)

    def _shown(self, outcome: AdvancedEdit | Exception) -> _Shown | Exception:
        if isinstance(outcome, Exception):
            return outcome
        try:
            return _Shown(outcome, b"" if outcome.preview is None else self._encode_preview(outcome.preview))
        except Exception as error:  # noqa: BLE001 (as above)
            return error

    def _fail(self, key: str, error: Exception) -> None:
        active = self._remove(key)
        if not isinstance(error, QiedError):
            self._log.error("an edit failed because of a bug", job=key, exc_info=error)
            error = defect(error)
        self._report(failure(active.begin, error))


def failure(begin: w.Begin, error: QiedError) -> w.EditFailed:
    """Report that an edit ended with an error."""
    retry = isinstance(error, OutOfMemory)
    return w.EditFailed(begin.user, begin.job, error.code, error.message[:500], error.remedy[:500], retry)


def defect(error: Exception) -> InternalError:
    """What a user sees of an unexpected exception."""
    return InternalError(f"The engine failed: {type(error).__name__}: {error}"[:400], "See the daemon's log.")
