"""The engine as the step loop needs it; ``qied.engine.serving`` provides it with torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from qied.edit import EditSpec
from qied.link.launch import LaunchOrder
from qied.planning.edits.view import View
from qied.progress import OnProgress
from qied.scheduling.sweep import StepNeeds, SweepRoom

if TYPE_CHECKING:
    from PIL.Image import Image


class DeviceLost(Exception):
    """The device no longer responds in this process: only a new process can continue its edits."""


@dataclass(frozen=True)
class Ended:
    """A unit of work that the device has ended: number ``step`` of its phase, and what it took of the device's time."""

    phase: str
    step: int
    milliseconds: float


class Picture(Protocol):
    """A decoded picture, upright and in sRGB: a whole one, or one of which only some views are kept."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole picture in pixels."""

    def resize(self, size: tuple[int, int], resample: int, /) -> Image:
        """The picture at a size, with one of Pillow's filters; only a size that is kept, where not all of it is."""


class AdvancedEdit(Protocol):
    """The result of one unit of work; ``image`` is there after the last one only."""

    @property
    def phase(self) -> str:
        """Phase that the unit belongs to."""

    @property
    def step(self) -> int:
        """Number of the unit in its phase, from 1."""

    @property
    def steps(self) -> int:
        """Units of the phase."""

    @property
    def ended(self) -> Sequence[Ended] | None:
        """Units of this edit that have ended on the device since it was last asked, this one or earlier ones.

        The last unit brings all that are left. None from an engine that does not measure: then the loop does.
        """

    @property
    def preview(self) -> Image | None:
        """A small picture of what the result will be."""

    @property
    def image(self) -> Image | None:
        """The result."""


class RunningEdit(Protocol):
    """An edit in progress; dropping it frees its memory."""

    @property
    def step_needs(self) -> StepNeeds | None:
        """What its next unit adds to the steps of others, if it is a step; asked where the engine sweeps."""

    def advance(self) -> AdvancedEdit:
        """Do one bounded unit of work; raises QiedError, or DeviceLost, after which the process must end."""


class EnginePort(Protocol):
    """A loaded model. Bytes are those of the device."""

    device: str
    precision: str
    model: str
    budget_bytes: int
    weights_bytes: int

    @property
    def sweep_room(self) -> SweepRoom | None:
        """Room for steps that go together; None if each goes alone."""

    def sweep(self, edits: Sequence[Any]) -> Sequence[AdvancedEdit | Exception]:
        """Take the next step of several of its edits together; returns what each did, or its error.

        Called only with ``sweep_room``. Raises DeviceLost.
        """

    def views(self, spec: EditSpec, blob: str, size: tuple[int, int]) -> tuple[View, ...]:
        """All that an edit will need of one of its pictures, whose size is (width, height); of the mask it is known.

        Called from another thread than the engine's.
        """

    def begin(self, spec: EditSpec, pictures: Mapping[str, Picture], scope: str) -> RunningEdit:
        """Begin an edit that may use the cache of ``scope``; raises QiedError. Pictures have the views asked for."""

    def forget(self, scope: str) -> None:
        """Drop the cache of a scope."""

    def device_memory(self) -> tuple[int, int] | None:
        """Bytes of the device that this process has, and that are free; None if no other process competes for them.

        Called from another thread than the engine's.
        """


LoadEngine = Callable[[LaunchOrder, OnProgress], EnginePort]
