"""Locks by name, which exist only while somebody holds or awaits them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import AsyncExitStack, asynccontextmanager


class NamedLocks:
    """Any number of locks; several are always taken in the order of their names, so that none wait in a circle."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, asyncio.Lock] = {}
        self._users: Counter[Hashable] = Counter()

    @asynccontextmanager
    async def hold(self, *names: tuple[str, ...]) -> AsyncIterator[None]:
        """Hold the locks of these names; a name whose last part is empty needs none."""
        wanted = sorted(name for name in set(names) if name[-1])
        async with AsyncExitStack() as stack:
            for name in wanted:
                await stack.enter_async_context(self._one(name))
            yield

    @asynccontextmanager
    async def _one(self, name: Hashable) -> AsyncIterator[None]:
        lock = self._locks.setdefault(name, asyncio.Lock())
        self._users[name] += 1
        try:
            async with lock:
                yield
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name], self._locks[name]
