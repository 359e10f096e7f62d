"""One edit in progress, advanced a unit of work at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from qied.edit import EditSpec
from qied.engine.device_errors import guarded
from qied.engine.edits.context import Advance, EditInputs, EngineContext, HeldBytes
from qied.engine.edits.denoise import VelocityRequest
from qied.engine.edits.pacing import Meter
from qied.engine.edits.phases import Units, run_edit
from qied.engine.edits.scene_cache import SceneCache
from qied.link.engine_port import Picture
from qied.scheduling.sweep import StepNeeds


class Edit:
    """One edit in progress; dropping it frees its memory, and its result depends on nothing but spec and pictures."""

    def __init__(
        self, context: EngineContext, spec: EditSpec, pictures: Mapping[str, Picture], cache: SceneCache
    ) -> None:
        self.spec = spec
        self.device = context.models.device
        self.meter = Meter()
        self._context = context
        self.held = HeldBytes()
        self._units: Units[None] | None = run_edit(context, EditInputs(spec, pictures, context.sight), cache, self.held)

    @property
    def state_bytes(self) -> int:
        """Bytes of tensors that this edit holds between units; what its cache holds as well is counted here too."""
        return self.held.total

    @property
    def step_needs(self) -> StepNeeds | None:
        """What the next unit adds to the steps of others; None if it is not a step, or not known to be one.

        Of every step but the first it is known, of that one where the engine sweeps.
        """
        return self.held.step

    @guarded
    def advance(self) -> Advance:
        """Do one bounded unit of work; what the cache holds is skipped.

        Raises OutOfMemory or JobFailed, and DeviceLost if no edit of this process can continue. After any error, and
        after the result, the edit is over and holds nothing.
        """
        with self._context.pacer.unit() as unit:
            work = self._next()
            if isinstance(work, Advance):
                done = work
            else:
                velocities = work.transformer.velocities(work.forwards)
                # What was brought to the device for them goes before the rest of the step needs memory.
                del work
                done = self._stepped(velocities)
            unit.belongs_to(self.meter, done.phase, done.step)
        if done.image is not None:
            # It was copied to the host, so there is nothing to wait for.
            self._context.pacer.finish()
            self.close()
        return replace(done, ended=self.meter.take())

    @guarded
    def begin_step(self) -> VelocityRequest:
        """Begin the next unit, which must be a step; it waits for ``end_step``. Errors are those of ``advance``."""
        assert self.step_needs is not None, "the next unit is not a step"
        request = self._next()
        assert isinstance(request, VelocityRequest), "a step asks for velocities"
        return request

    @guarded
    def end_step(self, velocities: Callable[[], list[Tensor]]) -> Advance:
        """End a begun step; an error of ``velocities`` is its error as well. Errors are those of ``advance``."""
        return self._stepped(velocities())

    def _next(self) -> Advance | VelocityRequest:
        assert self._units is not None, "the edit is over"
        return next(self._units)

    def _stepped(self, velocities: list[Tensor]) -> Advance:
        assert self._units is not None, "the edit is over"
        done = self._units.send(velocities)
        assert isinstance(done, Advance), "a step asks for velocities once"
        return done

    def close(self) -> None:
        """Let go of everything that the edit holds; it is over."""
        self._units = None
        self.held = HeldBytes()
