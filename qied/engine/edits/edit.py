"""One edit in progress, advanced a unit of work at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import torch
from qied_client.errors import OutOfMemory
from torch import Tensor

from qied.edit import EditSpec
from qied.engine.device_errors import is_exhausted, is_lost
from qied.engine.edits.context import Advance, EditInputs, EngineContext, HeldBytes
from qied.engine.edits.denoise import VelocityRequest
from qied.engine.edits.pacing import Meter
from qied.engine.edits.phases import Units, run_edit
from qied.engine.edits.scene_cache import SceneCache
from qied.link.engine_port import DeviceLost, Picture
from qied.scheduling.sweep import StepNeeds

T = TypeVar("T")


class Edit:
    """One edit in progress; dropping it frees its memory, and its result depends on nothing but spec and pictures."""

    def __init__(
        self, context: EngineContext, spec: EditSpec, pictures: Mapping[str, Picture], cache: SceneCache
    ) -> None:
        self.spec = spec
        self.meter = Meter()
        self._context = context
        self._account = HeldBytes()
        self._units: Units[None] | None = run_edit(context, EditInputs(spec, pictures), cache, self._account)

    @property
    def state_bytes(self) -> int:
        """Bytes of tensors that this edit holds between units; what its cache holds as well is counted here too."""
        return self._account.total

    @property
    def step_needs(self) -> StepNeeds | None:
        """What the next unit adds to the steps of others; None if it is not a step, or not known to be one.

        Of every step but the first it is known, of that one where the engine sweeps.
        """
        return self._account.step

    def advance(self) -> Advance:
        """Do one bounded unit of work; what the cache holds is skipped.

        Raises OutOfMemory or JobFailed, and DeviceLost if no edit of this process can continue. After any error, and
        after the result, the edit is over and holds nothing.
        """
        done = self._guarded(self._unit_alone)
        return replace(done, ended=self.meter.take())

    def begin_step(self) -> VelocityRequest:
        """Begin the next unit, which must be a step; it waits for ``end_step``. Errors are those of ``advance``."""
        assert self.step_needs is not None, "the next unit is not a step"
        request = self._guarded(self._next)
        assert isinstance(request, VelocityRequest), "a step asks for velocities"
        return request

    def end_step(self, velocities: Callable[[], list[Tensor]]) -> Advance:
        """End a begun step; an error of ``velocities`` is its error as well. Errors are those of ``advance``."""
        return self._guarded(lambda: self._stepped(velocities()))

    def _unit_alone(self) -> Advance:
        with self._context.pacer.unit() as unit:
            work = self._next()
            if isinstance(work, Advance):
                done = work
            else:
                velocities = self._context.models.transformer.velocities(work.forwards)
                # What was brought to the device for them goes before the rest of the step needs memory.
                del work
                done = self._stepped(velocities)
            unit.belongs_to(self.meter, done.phase, done.step)
        if done.image is not None:
            # It was copied to the host, so there is nothing to wait for.
            self._context.pacer.finish()
            self._finish()
        return done

    def _next(self) -> Advance | VelocityRequest:
        assert self._units is not None, "the edit is over"
        return next(self._units)

    def _stepped(self, velocities: list[Tensor]) -> Advance:
        assert self._units is not None, "the edit is over"
        done = self._units.send(velocities)
        assert isinstance(done, Advance), "a step asks for velocities once"
        return done

    def _guarded(self, work: Callable[[], T]) -> T:
        """Do a part of a unit; raises the errors of ``advance``."""
        exhausted: str | None = None
        try:
            with torch.inference_mode():
                return work()
        except BaseException as error:
            self._finish()
            device = self._context.models.device
            if is_lost(error, device):
                raise DeviceLost(f"{device} no longer answers: {error}") from error
            if not is_exhausted(error):
                raise
            exhausted = str(error)
        # Raised only here, so that the error does not keep the failed frames and their tensors alive.
        raise OutOfMemory(f"Memory ran out: {exhausted}", "Ask for a smaller picture.")

    def _finish(self) -> None:
        self._units = None
        self._account = HeldBytes()
