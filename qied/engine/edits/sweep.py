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

from qied.engine.device_errors import is_exhausted, raise_if_lost
from qied.engine.edits.context import Advance, EngineContext
from qied.engine.edits.denoise import VelocityRequest
from qied.engine.edits.edit import Edit
from qied.link.engine_port import DeviceLost
from qied.scheduling.sweep import SweepRoom

T = TypeVar("T")


class Sweep:
    """Takes steps of several edits together; ``room`` is what they may take now, None where each goes alone.

    Where memory ran out all the same, ``room`` is halved, so that it is not tried in vain at every step.
    """

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self.room: SweepRoom | None = context.sweep_room

    def __call__(self, edits: Sequence[Edit]) -> list[Advance | Exception]:
        """Take the next step of each edit, for which blocks are copied once; returns what each did, or its error.

        The next unit of each must be a step, and they must fit ``room``. What an edit gives does not depend on the
        others. Where the sweep fails, each step is tried alone, so that no edit fails by another. An edit with an error
        is over. Raises DeviceLost, after which no edit can continue.
        """
        done: list[Advance | Exception] = []
        try:
            with self._context.pacer.unit() as unit:
                begun = [_outcome(edit.begin_step) for edit in edits]
                velocities = iter(self._velocities([step for step in begun if isinstance(step, VelocityRequest)]))
                for edit, request in zip(edits, begun, strict=True):
                    if isinstance(request, Exception):
                        done.append(request)
                        continue
                    step = _outcome(partial(edit.end_step, next(velocities)))
                    if isinstance(step, Advance):
                        unit.belongs_to(edit.meter, step.phase, step.step, weight=request.tokens)
                    done.append(step)
        except Exception as error:
            raise_if_lost(error, self._context.models.device)
            raise
        return [
            step if isinstance(step, Exception) else replace(step, ended=edit.meter.take())
            for edit, step in zip(edits, done, strict=True)
        ]

    def _velocities(self, requests: Sequence[VelocityRequest]) -> list[Callable[[], list[Tensor]]]:
        """What gives each request its velocities: those of one sweep where that went well, else a sweep of its own."""
        if len(requests) > 1:
            try:
                return [partial(list, found) for found in _in_sweeps(requests)]
            except Exception as error:  # noqa: BLE001 (each is tried alone, and fails by itself if it has to)
                self._tried_together(error, len(requests))
        return [partial(request.transformer.velocities, request.forwards) for request in requests]

    def _tried_together(self, error: Exception, steps: int) -> None:
        """Note that a sweep of several steps failed; raises DeviceLost if no other can go well."""
        raise_if_lost(error, self._context.models.device)
        if is_exhausted(error) and self.room is not None:
            self.room = replace(self.room, bytes=self.room.bytes // 2)
        reason = f"{type(error).__name__}: {error}"
        log = structlog.get_logger(part="sweep")
        log.warning("steps failed together, retrying them one by one", steps=steps, reason=reason)


@torch.inference_mode()
def _in_sweeps(requests: Sequence[VelocityRequest]) -> list[list[Tensor]]:
    """The velocities of each request, in a sweep for each precision that they are in."""
    found: dict[int, list[Tensor]] = {}
    for transformer in dict.fromkeys(request.transformer for request in requests):
        own = [(place, request) for place, request in enumerate(requests) if request.transformer is transformer]
        velocities = iter(transformer.velocities([each for _, request in own for each in request.forwards]))
        found |= {place: list(islice(velocities, len(request.forwards))) for place, request in own}
    return [found[place] for place in range(len(requests))]


def _outcome(work: Callable[[], T]) -> T | Exception:
    try:
        return work()
    except DeviceLost:
        raise
    except Exception as error:  # noqa: BLE001 (it is the edit's, and told as such)
        return error
