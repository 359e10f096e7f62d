"""The front's clocks: one for waiting, and one for expiry, which a wrong wall clock cannot hurry."""

from __future__ import annotations

import sys
import time
from typing import Final

TOLERANCE_S: Final = 300.0
"""Seconds that the wall clock may be ahead without a reason: corrections, and a quick restart of the daemon."""
CONFIRMED_S: Final = 3600.0
"""Seconds of the monotonic clock after which a wall clock that jumped ahead is believed."""


def now_ms() -> int:
    """Milliseconds of the monotonic clock."""
    return time.monotonic_ns() // 1_000_000


class ExpiryClock:
    """The time by which things expire, in seconds since the epoch; pure, both clocks are arguments.

    A wall clock that is ahead of what is known (a machine that starts before its clock is set, one that slept, or
    months in a drawer) is believed only after it has kept that time for an hour. Until then time passes by the
    monotonic clock. A wall clock that is behind is believed at once: that deletes nothing.
    """

    def __init__(self, known_s: float | None, wall_s: float, monotonic_s: float) -> None:
        """``known_s`` is the newest time that is known to be right, None where nothing is."""
        self._offset_s = (wall_s if known_s is None else known_s) - monotonic_s
        self._claimed_s: float | None = None
        self._claimed_at_s = 0.0

    def now(self, wall_s: float, monotonic_s: float) -> float:
        """The time that is believed now."""
        offset = wall_s - monotonic_s
        if offset <= self._offset_s + TOLERANCE_S or self._is_confirmed(offset, monotonic_s):
            self._offset_s, self._claimed_s = offset, None
        return self._offset_s + monotonic_s

    def ahead_s(self, wall_s: float, monotonic_s: float) -> float:
        """Seconds by which the wall clock is ahead of what is believed; 0 where it is believed."""
        return 0.0 if self._claimed_s is None else wall_s - monotonic_s - self._offset_s

    def _is_confirmed(self, offset: float, monotonic_s: float) -> bool:
        """Whether the wall clock has claimed this time, give or take corrections, for long enough."""
        if self._claimed_s is None or abs(offset - self._claimed_s) > TOLERANCE_S:
            self._claimed_s, self._claimed_at_s = offset, monotonic_s
        return monotonic_s - self._claimed_at_s >= CONFIRMED_S


def slept_ms() -> int:
    """Milliseconds that this machine was suspended since its start (Linux); 0 on other systems."""
    if sys.platform != "linux":
        return 0
    return (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()) // 1_000_000
