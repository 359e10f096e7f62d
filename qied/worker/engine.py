"""What the step loop needs of an engine; ``qied.engine.serving`` provides it with torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from qied.edit import EditSpec
from qied.link.launch import LaunchOrder

if TYPE_CHECKING:
    from PIL.Image import Image


class DeviceLost(Exception):
    """The device answers nothing any more in this process: only a new process can go on with its edits."""


@dataclass(frozen=True)
class Ended:
    """A unit of work that the device has ended: number ``step`` of its phase, and what it took of the device's time."""

    phase: str
    step: int
    milliseconds: float


class Advanced(Protocol):
    """What one unit of work did; ``image`` is there after the last one only."""

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
    def preview(self) -> Image | None:
        """A small picture of what the result will be."""

    @property
    def image(self) -> Image | None:
        """The result."""


class Running(Protocol):
    """An edit in progress; dropping it frees its memory."""

    def advance(self) -> Advanced:
        """Do one bounded unit of work; raises QiedError, or DeviceLost, after which the process must end."""


class Engine(Protocol):
    """A loaded model. Bytes are those of the device."""

    device: str
    precision: str
    model: str
    budget_bytes: int
    weights_bytes: int

    def begin(self, spec: EditSpec, pictures: Mapping[str, Image], scope: str) -> Running:
        """Begin an edit that may use the cache of ``scope``; raises QiedError."""

    def forget(self, scope: str) -> None:
        """Drop the cache of a scope."""

    def device_memory(self) -> tuple[int, int] | None:
        """Bytes of the device that this process has, and that are free; None where nobody else competes for them.

        Called beside the thread that owns the engine.
        """


OnLoading = Callable[[str, int, int], None]
LoadEngine = Callable[[LaunchOrder, OnLoading], Engine]
