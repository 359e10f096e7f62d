"""What happens, as it happens: a stream for each window of a user, with the daemon's state and all live jobs."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from qied_client.aio import AsyncJob
from qied_client.errors import QiedError
from qied_client.results import Progress
from qied_client.web.errors import of_qied
from qied_client.web.http.events import PING, event
from qied_client.web.users import Users

_STATUS_S: Final = 1.0
_SILENCE_S: Final = 2.0
"""Seconds after which windows get a sign of life while the daemon does not answer."""
_QUEUE: Final = 256
"""Events that one window may be behind before it is ended: it connects again and is told where things stand."""


class Feed:
    """The streams of one user, which share one look at the daemon a second and one follower for each job."""

    def __init__(self, users: Users, user: str) -> None:
        self._users = users
        self._user = user
        self._windows: set[asyncio.Queue[bytes | None]] = set()
        self._last: dict[str, dict[str, bytes]] = {}
        self._status: bytes | None = None
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether it has neither a window nor a job to follow."""
        return not self._windows and not self._watching

    def watch(self, job: AsyncJob) -> None:
        """Follow a job for all windows until its end."""
        if job.id not in self._watching:
            self._last[job.id] = {}
            task = asyncio.create_task(self._follow(job), name=f"feed {job.id}")
            self._watching[job.id] = task
            task.add_done_callback(lambda _: (self._watching.pop(job.id, None), self._last.pop(job.id, None)))

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Where things stand, and then what happens."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUE)
        self._windows.add(queue)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name=f"feed of {self._user}")
        try:
            if self._status is not None:
                yield self._status
            for job in list(self._last.values()):
                for known in list(job.values()):
                    yield known
            while (news := await queue.get()) is not None:
                yield news
        finally:
            self._windows.discard(queue)
            if not self._windows and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def close(self) -> None:
        """End everything."""
        tasks = [*self._watching.values(), *((self._looking,) if self._looking else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        """Tell the daemon's state each second."""
        while True:
            asking = asyncio.ensure_future(self._state())
            try:
                while not (await asyncio.wait({asking}, timeout=_SILENCE_S))[0]:
                    self._tell(PING)
                self._status = event("status", asking.result())
            finally:
                asking.cancel()
            self._tell(self._status)
            await asyncio.sleep(_STATUS_S)

    async def _state(self) -> dict[str, Any]:
        """The daemon's state; jobs that were submitted elsewhere are taken up."""
        try:
            async with self._users.client(self._user) as client:
                report = await client.status()
                for row in report.jobs:
                    if row.job is not None and row.job not in self._watching:
                        with suppress(QiedError):
                            self.watch(await client.job(row.job))
        except QiedError as error:
            return {"reachable": False, **of_qied(error).body()}
        return {"reachable": True, **asdict(report)}

    async def _follow(self, job: AsyncJob) -> None:
        try:
            async for progress in job.events():
                news = event("job", {"job": job.id, **_told(progress)})
                self._last[job.id][progress.kind] = news
                self._tell(news)
            outcome = await job.outcome()
            facts = {name: value for name, value in asdict(outcome).items() if name not in ("blob", "number")}
            self._tell(event("outcome", facts))
        except QiedError as error:
            self._tell(event("outcome", {"job": job.id, "state": "failed", **of_qied(error).body()["error"]}))

    def _tell(self, news: bytes) -> None:
        for queue in list(self._windows):
            try:
                queue.put_nowait(news)
            except asyncio.QueueFull:
                self._windows.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)


class Feeds:
    """The feeds of all users that are here."""

    def __init__(self, users: Users) -> None:
        self._users = users
        self._feeds: dict[str, Feed] = {}

    def of(self, user: str) -> Feed:
        """The feed of a user."""
        for name in [name for name, feed in self._feeds.items() if feed.idle and name != user]:
            del self._feeds[name]
        if user not in self._feeds:
            self._feeds[user] = Feed(self._users, user)
        return self._feeds[user]

    def watch(self, user: str, jobs: list[AsyncJob]) -> None:
        """Follow jobs for the windows of their user."""
        for job in jobs:
            self.of(user).watch(job)

    async def close(self) -> None:
        """End all of them."""
        for feed in self._feeds.values():
            await feed.close()


async def job_events(job: AsyncJob) -> AsyncGenerator[bytes, None]:
    """The events of one job, numbered; a caller that comes back is told where it stands, and then goes on."""
    number = 0
    async for progress in job.events():
        number += 1
        yield event("job", {"job": job.id, **_told(progress)}, number)
    outcome = await job.outcome()
    facts = {name: value for name, value in asdict(outcome).items() if name not in ("blob", "number")}
    yield event("outcome", facts, number + 1)


def _told(progress: Progress) -> dict[str, Any]:
    fields = {name: value for name, value in vars(progress).items() if value not in (None, "", b"")}
    if progress.preview:
        fields["preview"] = base64.b64encode(progress.preview).decode()
    return fields
