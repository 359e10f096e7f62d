"""One connection to the daemon for each user of the gateway, opened when wanted and closed when idle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from qied_client.aio import AsyncClient

_IDLE_S: Final = 60.0

MakeClient = Callable[[str], AsyncClient]
"""Makes the client that speaks for a user."""


@dataclass
class _Held:
    client: AsyncClient
    uses: int = 0
    connecting: asyncio.Lock = field(default_factory=asyncio.Lock)
    closing: asyncio.TimerHandle | None = None


class Users:
    """The clients of all users that are here now. A client is shared by all requests of its user."""

    def __init__(self, make: MakeClient) -> None:
        self._make = make
        self._held: dict[str, _Held] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._held)

    @asynccontextmanager
    async def client(self, user: str) -> AsyncIterator[AsyncClient]:
        """The connected client of a user; raises UnreachableError and its kinds, NotPermitted."""
        held = self._held.get(user)
        if held is None:
            held = self._held[user] = _Held(self._make(user))
        if held.closing is not None:
            held.closing.cancel()
            held.closing = None
        held.uses += 1
        try:
            async with held.connecting:
                await held.client.connect()
            yield held.client
        finally:
            held.uses -= 1
            if held.uses == 0:
                held.closing = asyncio.get_running_loop().call_later(_IDLE_S, self._close_idle, user)

    async def close(self) -> None:
        """Close all connections; jobs in the daemon stay."""
        for held in self._held.values():
            if held.closing is not None:
                held.closing.cancel()
        clients = [held.client.close() for held in self._held.values()]
        self._held.clear()
        await asyncio.gather(*clients, *self._closing, return_exceptions=True)

    def _close_idle(self, user: str) -> None:
        held = self._held.pop(user, None)
        if held is None:  # all were closed meanwhile
            return
        task = asyncio.ensure_future(held.client.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
