"""Steps of several edits in one sweep over the blocks, so that each streamed block is copied once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TypeVar

import structlog
import torch
from torch import Tensor

from qied.engine.device_errors import is_exhausted, is_lost
from qied.engine.edits.context import Advance, EngineContext
from qied.engine.edits.denoise import VelocityRequest
from qied.engine.edits.edit import Edit
from qied.link.engine_port import DeviceLost
from qied.scheduling.sweep import SweepRoom

T = TypeVar("T")


class Sweeper:
    """Takes steps of several edits together; ``room`` is what they may take now, None where each goes alone.

    Where memory ran out all the same, ``room`` is halved, so that it is not tried in vain at every step.
    """

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self.room: SweepRoom | None = context.sweep_room

    def sweep(self, edits: Sequence[Edit]) -> list[Advance | Exception]:
        """Take the next step of each edit in one sweep, and return what it did, or its error; see ``Edit.advance``.

        The next unit of each must be a step. What an edit gives does not depend on the others. Where the sweep fails,
        each step is tried alone, so that no edit fails by another. An edit with an error is over. Raises DeviceLost.
        """
        try:
            done = self._swept(edits)
        except DeviceLost:
            raise
        except Exception as error:
            self._raise_if_lost(error)
            raise
        return [
            step if isinstance(step, Exception) else replace(step, ended=edit.meter.take())
            for edit, step in zip(edits, done, strict=True)
        ]

    def _swept(self, edits: Sequence[Edit]) -> list[Advance | Exception]:
        with self._context.pacer.unit() as unit:
            begun = [_outcome(edit.begin_step) for edit in edits]
            velocities = iter(self._velocities([step for step in begun if isinstance(step, VelocityRequest)]))
            done: list[Advance | Exception] = []
            for edit, request in zip(edits, begun, strict=True):
                if isinstance(request, Exception):
                    done.append(request)
                    continue
                step = _outcome(partial(edit.end_step, next(velocities)))
                if isinstance(step, Advance):
                    unit.belongs_to(edit.meter, step.phase, step.step, weight=request.tokens)
                done.append(step)
            return done

    def _velocities(self, requests: Sequence[VelocityRequest]) -> list[Callable[[], list[Tensor]]]:
        """What gives each request its velocities: those of one sweep where that went well, else a sweep of its own."""
        together = self._together(requests) if len(requests) > 1 else None
        if together is None:
            return [partial(self._context.models.transformer.velocities, request.forwards) for request in requests]
        found = iter(together)
        return [partial(list, list(islice(found, len(request.forwards)))) for request in requests]

    def _together(self, requests: Sequence[VelocityRequest]) -> list[Tensor] | None:
        """The velocities of all forwards by one sweep, None where it fails."""
        forwards = [forward for request in requests for forward in request.forwards]
        try:
            with torch.inference_mode():
                return self._context.models.transformer.velocities(forwards)
        except Exception as error:  # noqa: BLE001 (each is tried alone, and fails by itself if it has to)
            self._raise_if_lost(error)
            if is_exhausted(error) and self.room is not None:
                self.room = replace(self.room, bytes=self.room.bytes // 2)
            reason = f"{type(error).__name__}: {error}"
            log = structlog.get_logger(part="sweep")
            log.warning("steps failed together, retrying them one by one", steps=len(requests), reason=reason)
            return None

    def _raise_if_lost(self, error: Exception) -> None:
        device = self._context.models.device
        if is_lost(error, device):
            raise DeviceLost(f"{device} no longer answers: {error}") from error


def _outcome(work: Callable[[], T]) -> T | Exception:
    try:
        return work()
    except DeviceLost:
        raise
    except Exception as error:  # noqa: BLE001 (it is the edit's, and told as such)
        return error
