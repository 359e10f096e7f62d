"""The requests of one client: no more under way than the daemon allows, and what it refuses for now waits in line."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar

from qied_client.aio.listener import Tell
from qied_client.aio.uploads import PictureUpload, SharedUploads
from qied_client.aio.waiting_line import JobEnds, Outage, WaitingLine
from qied_client.net.bridge import Bridge
from qied_client.net.driver import Driver, OnMove
from qied_client.protocol import messages as m
from qied_client.results import Progress

T = TypeVar("T")
WhenFull = Literal["wait", "fail"]

_MOST_PREPARING = 8
"""Edits that are read, uploaded and handed in at a time: the pictures of all others take no memory yet."""
_MOST_DOWNLOADS = 8


def to_nobody(news: Progress) -> None:
    """For a call without a listener."""


class Room:
    """What one connection may have under way, from the daemon's greeting."""

    def __init__(self, welcome: m.Welcome) -> None:
        uploads = min(welcome.uploads, _MOST_PREPARING)
        self.preparing = asyncio.Semaphore(uploads)
        self.uploads = asyncio.Semaphore(uploads)
        self.downloads = asyncio.Semaphore(_MOST_DOWNLOADS)
        # Requests that were given up, and those that a reconnection makes by itself, count at the daemon too.
        self.requests = asyncio.Semaphore(max(1, welcome.requests * 3 // 4))


class Calls:
    """Asks the daemon. ``when_full`` says whether what it refuses for now is asked again or fails."""

    def __init__(self, driver: Callable[[], Driver | Bridge], when_full: WhenFull, patience_s: float) -> None:
        self._driver = driver
        self._waits = when_full == "wait"
        self._room: Room | None = None
        self._uploads = SharedUploads()
        self.outage = Outage()
        self.ends = JobEnds()
        self._lines: dict[str, WaitingLine] = defaultdict(lambda: WaitingLine(self.outage, self.ends, patience_s))
        self.welcome: m.Welcome | None = None

    async def start(self) -> m.Welcome:
        """Connect and return the daemon's greeting; raises UnreachableError and its kinds."""
        welcome = await self._driver().start()
        assert isinstance(welcome, m.Welcome)
        self.welcome = welcome
        if self._room is None:
            self._room = Room(welcome)
        return welcome

    async def ask(
        self, make: Callable[[int], m.Message], line: str = "", tell: Tell = to_nobody, *, insist: bool = False
    ) -> Any:
        """Send a request and return its answer. ``insist``: wait for capacity whatever the client was told."""
        room = await self._entered()
        return await self._through(line, room.requests, lambda: self._driver().ask(make), tell, insist)

    async def submit(
        self, make: Callable[[int], m.Message], tell: Tell, on_sent: Callable[[asyncio.Task[m.Accepted]], None]
    ) -> m.Accepted:
        """Send a SUBMIT and return its answer.

        One that is on its way is not given up with the caller, since the daemon may have accepted it: it goes on in the
        task that ``on_sent`` gets.
        """
        room = await self._entered()

        async def send() -> m.Accepted:
            sent: asyncio.Task[m.Accepted] = asyncio.create_task(self._driver().ask(make))
            sent.add_done_callback(lambda task: task.cancelled() or task.exception())
            on_sent(sent)
            return await asyncio.shield(sent)

        return await self._through("submit", room.requests, send, tell)

    async def follow(self, job: str, tell: Tell) -> None:
        """Have the events of a job pushed from now on."""
        room = await self._entered()
        await self._through("resume", room.requests, lambda: self._driver().follow(job), tell, insist=True)

    def unfollow(self, job: str) -> None:
        """No longer ask for a job's events."""
        self._driver().unfollow(job)

    async def upload(self, picture: PictureUpload, tell: Tell) -> None:
        """Upload a picture, unless the daemon already has it; with others who need it at the same time, once."""
        room = await self._entered()

        async def bring(tell_all: Tell) -> None:
            data = memoryview(await asyncio.to_thread(picture.read))
            move: OnMove = lambda done, total: tell_all(Progress("upload", done, total))  # noqa: E731
            await self._through("put", room.uploads, lambda: self._driver().upload(picture.hash, data, move), tell_all)

        await self._uploads.bring(picture.hash, bring, tell)

    async def download(self, blob_hash: str, tell: Tell) -> bytes:
        """Fetch a blob; its hash is checked."""
        room = await self._entered()

        def fetch() -> Awaitable[bytes]:
            move: OnMove = lambda done, total: tell(Progress("download", done, total))  # noqa: E731
            return self._driver().download(blob_hash, move)

        return await self._through("get", room.downloads, fetch, tell, insist=True)

    @asynccontextmanager
    async def preparing(self, tell: Tell) -> AsyncIterator[None]:
        """Wait for one of the places of edits that are prepared; they are taken in the order of the calls."""
        room = await self._entered()
        if room.preparing.locked():
            tell(Progress("waiting", note="Other edits of this client are handed in first."))
        async with self._place(room.preparing):
            yield

    async def _entered(self) -> Room:
        await self.start()
        assert self._room is not None, "it is made with the greeting"
        return self._room

    @asynccontextmanager
    async def _place(self, places: asyncio.Semaphore) -> AsyncIterator[None]:
        outages = self.outage.count
        async with places:
            self.outage.check(outages)
            yield

    async def _through(
        self, line: str, places: asyncio.Semaphore, ask: Callable[[], Awaitable[T]], tell: Tell, insist: bool = False
    ) -> T:
        async def once() -> T:
            async with self._place(places):
                return await ask()

        if self._waits or insist:
            return await self._lines[line].wait_out(once, tell)
        return await once()
