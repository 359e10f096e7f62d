"""News for one reader, of which only the latest counts: who is behind is told where things stand, not how they came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Hashable, Mapping
from typing import Final

News = Mapping[Hashable, bytes]
"""Whole events by what they are about, the oldest first."""

_MOST: Final = 256 * 1024
"""Bytes that may wait for one reader."""


class Latest:
    """Events of bytes that wait for their reader. One that is newer takes the place of an older one with its key."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._waiting: News = {}
        self._ended = False
        self._news = asyncio.Event()

    def put(self, news: News) -> None:
        """Have the reader hear this; a reader for whom more than ``most`` bytes wait is ended."""
        if self._waiting:
            news = {**{key: each for key, each in self._waiting.items() if key not in news}, **news}
            self._ended = self._ended or sum(map(len, news.values())) > self._most
        self._waiting = news
        self._news.set()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """What waits, as one piece each time; ends once too much does."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self._ended:
                return
            waiting, self._waiting = self._waiting, {}
            yield b"".join(waiting.values())
