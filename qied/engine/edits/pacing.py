"""Pacing: the host is at most one unit of work ahead of the device, and learns what each unit took there.

Before a unit is begun, the host waits for the end of the unit before the last one. So the device always has the next
unit while the host prepares one more, and what the host decides (whose turn it is, what is cancelled) is at most one
unit old when it is carried out.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from qied.link.engine_port import Ended

AHEAD = 1
"""Units that may be under way on the device when the next one is begun."""


class Timeline(Protocol):
    """The work of a device in its order, with marks in it."""

    def mark(self) -> Any:
        """Set a mark behind everything that was enqueued so far."""

    def passed(self, mark: Any) -> bool:
        """Whether the device has got to ``mark``."""

    def wait(self, mark: Any) -> None:
        """Let the host wait until the device has got to ``mark``."""

    def milliseconds(self, first: Any, last: Any) -> float:
        """Time of the device from one mark that it has passed to another."""


class Meter:
    """The units of one edit that have ended, until they are reported."""

    def __init__(self) -> None:
        self._ended: list[Ended] = []

    def count(self, ended: Ended) -> None:
        """Take in a unit, or the edit's share of one."""
        self._ended.append(ended)

    def take(self) -> tuple[Ended, ...]:
        """Return what has ended since the last time, in order."""
        ended, self._ended = tuple(self._ended), []
        return ended


@dataclass(frozen=True)
class _Share:
    meter: Meter
    phase: str
    step: int
    weight: float


@dataclass
class Unit:
    """One unit of work on its way through the device, and whose it is."""

    begun: Any
    over: Any = None
    shares: list[_Share] = field(default_factory=list)

    def belongs_to(self, meter: Meter, phase: str, step: int, weight: float = 1.0) -> None:
        """Let an edit's meter count the unit; among several by ``weight``."""
        self.shares.append(_Share(meter, phase, step, weight))


class Pacer:
    """Paces all edits of an engine.

    What is measured of a unit is the device's time from its begin, or from the end of the unit before it where the
    device was not done with that, to its end: not what others left between units, and not what the host was ahead.
    It is counted as soon as the host knows of the end: at the end of the unit where the device is done by then (the CPU
    always is), else when a later unit is begun or over, and with ``finish`` at the latest.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._under_way: deque[Unit] = deque()

    @contextmanager
    def unit(self) -> Iterator[Unit]:
        """Do one unit of work inside; one that is left by an error is not counted."""
        while len(self._under_way) > AHEAD:
            self._timeline.wait(self._under_way[0].over)
            self._count_first()
        unit = Unit(self._timeline.mark())
        yield unit
        unit.over = self._timeline.mark()
        self._under_way.append(unit)
        while self._under_way and self._timeline.passed(self._under_way[0].over):
            self._count_first()

    def finish(self) -> None:
        """Wait for everything that is under way, and count it."""
        while self._under_way:
            self._timeline.wait(self._under_way[0].over)
            self._count_first()

    def _count_first(self) -> None:
        unit = self._under_way.popleft()
        took, weights = self._timeline.milliseconds(unit.begun, unit.over), sum(share.weight for share in unit.shares)
        for share in unit.shares:
            share.meter.count(Ended(share.phase, share.step, took * share.weight / weights))


def pacer_of(device: torch.device) -> Pacer:
    """The pacer of a device."""
    return Pacer(_Card(device) if device.type == "cuda" else _Host())


class _Card:
    """A CUDA device: its current stream, with events as marks."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def mark(self) -> Any:
        # Blocking: the host's thread sleeps while it waits, for which there is time.
        event = torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def passed(self, mark: Any) -> bool:
        return bool(mark.query())

    def wait(self, mark: Any) -> None:
        mark.synchronize()

    def milliseconds(self, first: Any, last: Any) -> float:
        return float(first.elapsed_time(last))


class _Host:
    """The CPU, where everything is over when the call returns."""

    def mark(self) -> float:
        return time.perf_counter()

    def passed(self, mark: float) -> bool:
        return True

    def wait(self, mark: float) -> None: ...

    def milliseconds(self, first: float, last: float) -> float:
        return (last - first) * 1000
