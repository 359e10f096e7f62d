"""What windows cost: one look at the daemon for all windows of a user, however they come."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from qied_client.errors import JobFailed, UnreachableError
from qied_client.protocol import messages as m
from qied_client.results import Progress
from qied_client.web.feed import Feeds

WINDOWS = 10


class Away:
    """In place of the gateway's clients: a daemon that is not there, and how often it was looked for."""

    def __init__(self) -> None:
        self.looks: Counter[str] = Counter()

    @asynccontextmanager
    async def client(self, user: str) -> AsyncIterator[None]:
        self.looks[user] += 1
        raise UnreachableError("Away.", "Wait.")
        yield


def test_windows_of_several_users_that_come_in_turn_share_one_look_each():
    async def run() -> tuple[Counter[str], set[bytes]]:
        away = Away()
        feeds = Feeds(away)  # type: ignore[arg-type]
        windows = [feeds.events(user) for _ in range(WINDOWS) for user in ("ann", "bob", "eve")]
        first = await asyncio.gather(*(anext(window) for window in windows))
        for window in windows:
            await window.aclose()
        await feeds.close()
        return away.looks, set(first)

    looks, first = asyncio.run(run())
    assert looks == {"ann": 1, "bob": 1, "eve": 1}
    assert len(first) == 1 and b'"reachable": false' in first.pop()


def test_a_window_that_comes_later_is_told_at_once_where_things_stand():
    async def run() -> bool:
        feeds = Feeds(Away())  # type: ignore[arg-type]
        one, other = feeds.events("ann"), feeds.events("ann")
        told = await anext(one)
        same = await asyncio.wait_for(anext(other), 0.5) == told
        for window in (one, other):
            await window.aclose()
        return same

    assert asyncio.run(run())


class Known:
    """In place of a client: every job is one that is done at once."""

    async def job(self, job_id: str) -> Quick:
        return Quick()


def test_a_job_that_another_follows_is_taken_up_at_once_where_its_user_has_a_window():
    async def run() -> tuple[bytes, bool]:
        feeds = Feeds(Away())  # type: ignore[arg-type]
        window = feeds.events("ann")
        await anext(window)
        for user in ("ann", "bob"):
            await feeds.take_up(user, Known(), [Quick()])  # type: ignore[arg-type, list-item]
        piece = await asyncio.wait_for(anext(window), 0.5)
        of_bob = "bob" in feeds._feeds
        await window.aclose()
        await feeds.close()
        return piece, of_bob

    piece, of_bob = asyncio.run(run())
    assert b"event: job" in piece and not of_bob


class Quick:
    """In place of a followed job: all of its steps at once, and its end."""

    id = "quick"

    async def events(self) -> AsyncIterator[Progress]:
        yield Progress("started")
        for step in range(1, 6):
            yield Progress("step", done=step, total=5, preview=b"pixels")

    async def outcome(self) -> m.Result:
        raise JobFailed("The prompt said so.", "Ask for something else.")


def test_steps_that_come_at_once_are_told_as_the_last_of_them():
    async def run() -> bytes:
        feeds = Feeds(Away())  # type: ignore[arg-type]
        window = feeds.events("ann")
        await anext(window)
        feeds.watch("ann", [Quick()])  # type: ignore[list-item]
        piece = await asyncio.wait_for(anext(window), 5)
        await window.aclose()
        await feeds.close()
        return piece

    events = [event.splitlines() for event in asyncio.run(run()).split(b"\r\n\r\n") if event]
    assert [name for name, _ in events] == [b"event: job", b"event: job", b"event: outcome"]
    told = [json.loads(data.removeprefix(b"data: ")) for _, data in events]
    assert told[0] == {"job": "quick", "kind": "started", "done": 0, "total": 0}
    assert told[1] == {"job": "quick", "kind": "step", "done": 5, "total": 5}
    assert (told[2]["state"], told[2]["code"]) == ("failed", "job_failed")
