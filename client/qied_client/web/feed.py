"""What happens, as it happens: a stream for each window of a user, with the daemon's state and all live jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Hashable
from contextlib import aclosing, suppress
from dataclasses import asdict
from typing import Any, Final

from qied_client.aio import AsyncClient, AsyncJob
from qied_client.errors import QiedError
from qied_client.results import Progress
from qied_client.web.errors import of_qied
from qied_client.web.http.events import PING, event
from qied_client.web.http.latest import Latest
from qied_client.web.users import Users

_STATUS_S: Final = 1.0
_SILENCE_S: Final = 2.0
"""Seconds after which windows get a sign of life while the daemon does not answer."""
_PAUSE_S: Final = 0.04
"""Seconds from one piece of news to the next: what comes faster is told together, each job's latest step only."""


class Feed:
    """The streams of one user, which share one look at the daemon a second and one follower for each job.

    Each event is made once, and what happens within ``_PAUSE_S`` is told at once, so that many windows and fast steps
    cost little more than one window and slow ones.
    """

    def __init__(self, users: Users, user: str) -> None:
        self._users = users
        self._user = user
        self._windows: set[Latest] = set()
        self._last: dict[str, dict[str, bytes]] = {}
        self._status: bytes | None = None
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._untold: dict[Hashable, bytes] = {}
        self._told_at = 0.0
        self._telling: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether it has neither a window nor a job to follow."""
        return not self._windows and not self._watching

    @property
    def has_windows(self) -> bool:
        """Whether somebody listens."""
        return bool(self._windows)

    def watch(self, job: AsyncJob) -> None:
        """Follow a job for all windows until its end."""
        if job.id not in self._watching:
            self._last[job.id] = {}
            task = asyncio.create_task(self._follow(job), name=f"feed {job.id}")
            self._watching[job.id] = task
            task.add_done_callback(lambda _: (self._watching.pop(job.id, None), self._last.pop(job.id, None)))

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Where things stand, and then what happens; one piece may hold several events."""
        window = Latest()
        standing: dict[Hashable, bytes] = {"status": self._status} if self._status is not None else {}
        for job, known in self._last.items():
            for kind, news in known.items():
                standing[job, kind] = news
        if standing:
            window.put(standing)
        self._windows.add(window)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name=f"feed of {self._user}")
        try:
            async for piece in window.pieces():
                yield piece
        finally:
            self._windows.discard(window)
            if not self._windows and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def close(self) -> None:
        """End everything."""
        if self._telling is not None:
            self._telling.cancel()
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
                    self._tell("ping", PING)
                self._status = event("status", asking.result())
            finally:
                asking.cancel()
            self._tell("status", self._status)
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
                known = self._last[job.id]
                known.pop(progress.kind, None)  # what is newest comes last
                known[progress.kind] = news
                self._tell((job.id, progress.kind), news)
            outcome = await job.outcome()
            facts = {name: value for name, value in asdict(outcome).items() if name not in ("blob", "number")}
        except QiedError as error:
            facts = {"job": job.id, "state": "failed", **of_qied(error).body()["error"]}
        self._tell((job.id, "outcome"), event("outcome", facts))

    def _tell(self, key: Hashable, news: bytes) -> None:
        """Have all windows hear this, with what else there is by then."""
        self._untold.pop(key, None)
        self._untold[key] = news
        if self._telling is None:
            loop = asyncio.get_running_loop()
            self._telling = loop.call_at(max(loop.time(), self._told_at + _PAUSE_S), self._tell_all)

    def _tell_all(self) -> None:
        self._telling = None
        self._told_at = asyncio.get_running_loop().time()
        untold, self._untold = self._untold, {}
        for window in self._windows:
            window.put(untold)


class Feeds:
    """The feeds of all users that are here."""

    def __init__(self, users: Users) -> None:
        self._users = users
        self._feeds: dict[str, Feed] = {}

    async def events(self, user: str) -> AsyncGenerator[bytes, None]:
        """The events of one more window of a user."""
        # The feed is looked for when the window is read, not before: one without windows may be let go until then.
        async with aclosing(self._of(user).events()) as events:
            async for piece in events:
                yield piece

    def _of(self, user: str) -> Feed:
        """The feed of a user; those of others without windows and jobs are let go."""
        for name in [name for name, feed in self._feeds.items() if feed.idle and name != user]:
            del self._feeds[name]
        if user not in self._feeds:
            self._feeds[user] = Feed(self._users, user)
        return self._feeds[user]

    def watch(self, user: str, jobs: list[AsyncJob]) -> None:
        """Follow jobs for the windows of their user."""
        for job in jobs:
            self._of(user).watch(job)

    async def take_up(self, user: str, client: AsyncClient, jobs: list[AsyncJob]) -> None:
        """Follow jobs that somebody else follows too, if their user has a window.

        Else a window would hear of them at the next look, when their first steps are over.
        """
        feed = self._feeds.get(user)
        if feed is not None and feed.has_windows:
            with suppress(QiedError):
                for job in jobs:
                    feed.watch(await client.job(job.id))

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
    """News as JSON has it. Of kind ``preview``, it says that there is a picture; GET /api/jobs/{job}/preview has it."""
    facts = {name: value for name, value in vars(progress).items() if value not in (None, "")}
    del facts["preview"]
    return facts
