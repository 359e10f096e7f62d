"""When a batch begins: ``--at 22:00``, or an hour of another day."""

from __future__ import annotations

import re
import threading
from datetime import datetime, timedelta
from typing import Final

from qied_client.errors import InvalidRequest

_CLOCK: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_SLICE_S: Final = 30.0
"""The clock is looked at so often: it may be set, and a machine that slept is late."""


def start_of(text: str, now: datetime) -> datetime:
    """The next time that a clock here shows ``text``, or the moment that it names, also when clocks change until then.

    Raises InvalidRequest for a past one.
    """
    clock = _CLOCK.fullmatch(text.strip())
    if clock:
        today = now.astimezone().replace(tzinfo=None, hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        start = _here(today)
        return start if start > now else _here(today + timedelta(days=1))
    try:
        start = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidRequest(
            f"--at: {text!r} is not a time.", "Write 22:00, or 2026-12-24T22:00.", field="at"
        ) from None
    start = start if start.tzinfo else _here(start)
    if start < now:
        raise InvalidRequest(f"--at: {text} is past.", "Leave it out to start now.", field="at")
    return start


def _here(wall: datetime) -> datetime:
    """The moment when a clock here shows a time; the first of two, and where clocks skip it, as long after the skip."""
    start = wall.astimezone()
    return start if start.replace(tzinfo=None) == wall else wall.replace(fold=1).astimezone()


def wait_until(start: datetime, stop: threading.Event) -> None:
    """Wait for a time of the wall clock; ends early when ``stop`` is set."""
    while not stop.is_set() and (left := (start - datetime.now().astimezone()).total_seconds()) > 0:
        stop.wait(min(left, _SLICE_S))
