"""Steps of several edits in one sweep over the blocks, so that each streamed block is copied once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TypeVar

import structlog
import torch
from torch import Tensor

from qied.engine.denoise import VelocityRequest
from qied.engine.faults import is_exhausted, is_lost
from qied.engine.pacing import Unit
from qied.engine.stepping import Edit
from qied.engine.work import Advance, Workbench
from qied.scheduling.sweep import SweepRoom
from qied.worker.engine import DeviceLost

T = TypeVar("T")


class Sweeper:
    """Takes steps of several edits together; ``room`` is what they may take, None where each goes alone.

    Where memory ran out all the same, ``room`` is halved, so that it is not tried in vain at every step.
    """

    def __init__(self, bench: Workbench, room: SweepRoom | None) -> None:
        self._bench = bench
        self.room = room

    def sweep(self, edits: Sequence[Edit]) -> list[Advance | Exception]:
        """Take the next step of each edit in one sweep, and return what it did, or its error; see ``Edit.advance``.

        The next unit of each must be a step. What an edit gives does not depend on the others. Where the sweep fails,
        each step is tried alone, so that no edit fails by another. An edit with an error is over. Raises DeviceLost.
        """
        with self._bench.pacer.unit() as unit:
            begun = [_outcome(edit.begin_step) for edit in edits]
            velocities = self._velocities([step for step in begun if isinstance(step, VelocityRequest)])
            done = [
                step if isinstance(step, Exception) else self._end(edit, step, velocities, unit)
                for edit, step in zip(edits, begun, strict=True)
            ]
        # Only here, since the unit was on its way until now.
        return [
            step if isinstance(step, Exception) else replace(step, ended=edit.meter.take())
            for edit, step in zip(edits, done, strict=True)
        ]

    def _end(
        self, edit: Edit, request: VelocityRequest, velocities: Iterator[list[Tensor]] | None, unit: Unit
    ) -> Advance | Exception:
        if velocities is None:
            compute = partial(self._bench.models.transformer.velocities, request.forwards)
        else:
            compute = partial(next, velocities)
        done = _outcome(partial(edit.end_step, compute))
        if isinstance(done, Advance):
            unit.belongs_to(edit.meter, done.phase, done.step, weight=request.tokens)
        return done

    def _velocities(self, requests: Sequence[VelocityRequest]) -> Iterator[list[Tensor]] | None:
        """The velocities of each request by one sweep; None where that fails, and where there is nothing to share."""
        if len(requests) < 2:
            return None
        models = self._bench.models
        try:
            with torch.inference_mode():
                together = models.transformer.velocities([each for request in requests for each in request.forwards])
        except Exception as error:
            if is_lost(error, models.device):
                raise DeviceLost(f"{models.device} no longer answers: {error}") from error
            self._note(error, len(requests))
            return None
        velocities = iter(together)
        return (list(islice(velocities, len(request.forwards))) for request in requests)

    def _note(self, error: Exception, steps: int) -> None:
        if is_exhausted(error) and self.room is not None:
            self.room = replace(self.room, bytes=self.room.bytes // 2)
        reason = f"{type(error).__name__}: {error}"
        structlog.get_logger(part="sweep").warning(
            "steps failed together, and are tried alone", steps=steps, reason=reason
        )


def _outcome(work: Callable[[], T]) -> T | Exception:
    try:
        return work()
    except DeviceLost:
        raise
    except Exception as error:  # noqa: BLE001 (it is the edit's, and told as such)
        return error
