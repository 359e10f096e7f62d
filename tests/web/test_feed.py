"""What windows cost: one look at the daemon for all windows of a user, however they come."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from qied_client.errors import UnreachableError
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
