"""What the daemon refuses for now waits in line, and only the first in line asks again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from qied_client.aio.listener import Tell
from qied_client.errors import CapacityError, DiskUnavailable, QiedError, QuotaExceeded, ShuttingDown
from qied_client.net.time_limit import time_limit
from qied_client.results import Progress

T = TypeVar("T")

_FIRST_S = 0.05
_LONGEST_S = 2.0
"""Seconds between two attempts of the first in line: they double from the one to the other, less some jitter."""

# How it works
#
#  1. A call asks at once if nobody waits. One that is refused for lack of capacity enters the line, at its end; so does
#     a call that comes while others wait. The line moves in the order in which it was entered.
#  2. Only the first in line asks. It asks when it becomes the first, then after a time that doubles with each refusal,
#     and at once when a job of this client has ended. An end that comes while it asks counts as well.
#  3. A refusal that does not pass is raised to the one that asked, and so is success; the next in line asks then.
#  4. What ends only if somebody does something (a stop, a disk, the user's full share) is waited for as long as the
#     client is patient. The time counts for the line and not for each: all in it fail together.
#  5. When the connection is given up, all in line fail with the reason.


class Outage:
    """Remembers when the connection was given up, so that each call that waits in this client fails with the reason."""

    def __init__(self) -> None:
        self.count = 0
        self._reason: QiedError | None = None

    def happened(self, reason: QiedError) -> None:
        """The connection was given up."""
        self.count += 1
        self._reason = reason

    def check(self, count: int) -> None:
        """Raise the reason where the connection was given up since ``count`` was read."""
        if self.count != count and self._reason is not None:
            raise self._reason


class JobEnds:
    """Counts the client's own jobs: those that go on, and those that have ended, which frees room."""

    def __init__(self) -> None:
        self.going_on = 0
        self._ended = 0
        self._event = asyncio.Event()

    @property
    def count(self) -> int:
        """How many have ended."""
        return self._ended

    def began(self) -> None:
        """One more goes on."""
        self.going_on += 1

    def ended(self) -> None:
        """One of them has ended, or was given up."""
        self.going_on -= 1
        self._ended += 1
        self._event.set()
        self._event = asyncio.Event()

    async def next(self, seen: int, timeout: float) -> bool:
        """Wait until more than ``seen`` have ended, at most ``timeout`` seconds; returns whether they have."""
        event = self._event
        if self._ended == seen:
            try:
                async with time_limit(timeout):
                    await event.wait()
            except TimeoutError:
                return False
        return True


class WaitingLine:
    """The calls of one kind that wait until the daemon has room; see above."""

    def __init__(self, outage: Outage, ends: JobEnds, patience_s: float) -> None:
        self._outage = outage
        self._ends = ends
        self._patience_s = patience_s
        self._turn = asyncio.Lock()
        self._length = 0
        self._why = ""
        self._stuck_since: float | None = None

    async def wait_out(self, ask: Callable[[], Awaitable[T]], tell: Tell) -> T:
        """Ask until the daemon takes it, and return its answer; raises refusals that do not pass."""
        refusal: CapacityError | None = None
        outages, seen = self._outage.count, self._ends.count
        if self._length == 0:
            try:
                return await ask()
            except CapacityError as error:
                if not error.retry:
                    raise
                refusal = error
        self._length += 1
        try:
            self._why = self._why if refusal is None else refusal.message
            tell(Progress("waiting", note=self._why))
            if self._turn.locked():
                refusal = None  # it is old by the time that this one is the first, which asks at once
            async with self._turn:
                return await self._as_first(ask, tell, refusal, seen, outages)
        finally:
            self._length -= 1
            if self._length == 0:
                self._stuck_since = None

    async def _as_first(
        self, ask: Callable[[], Awaitable[T]], tell: Tell, refusal: CapacityError | None, seen: int, outages: int
    ) -> T:
        delay = _FIRST_S
        while True:
            if refusal is not None:
                self._lose_patience(refusal)
                ended = await self._ends.next(seen, delay * random.uniform(0.5, 1.0))
                delay = _FIRST_S if ended else min(2 * delay, _LONGEST_S)
            self._outage.check(outages)
            seen = self._ends.count
            try:
                return await ask()
            except CapacityError as error:
                if not error.retry:
                    raise
                refusal = error
                if error.message != self._why:
                    self._why = error.message
                    tell(Progress("waiting", note=self._why))

    def _lose_patience(self, refusal: CapacityError) -> None:
        if not self._is_stuck(refusal):
            self._stuck_since = None
            return
        now = time.monotonic()
        self._stuck_since = self._stuck_since or now
        if now - self._stuck_since >= self._patience_s:
            raise refusal

    def _is_stuck(self, refusal: CapacityError) -> bool:
        """Whether nothing that goes on by itself is known to end this."""
        full_share = isinstance(refusal, QuotaExceeded) and refusal.details.get("setting") == "storage.user_share"
        return isinstance(refusal, (ShuttingDown, DiskUnavailable)) or (full_share and not self._ends.going_on)
