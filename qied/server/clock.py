"""The front's clock."""

from __future__ import annotations

import sys
import time


def now_ms() -> int:
    """Milliseconds of the monotonic clock."""
    return time.monotonic_ns() // 1_000_000


def slept_ms() -> int:
    """Milliseconds that this machine was suspended since its start (Linux); 0 on other systems."""
    if sys.platform != "linux":
        return 0
    return (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()) // 1_000_000
