"""Bytes that were sent to a connection and may still wait in memory, since its client has not read them.

ZeroMQ says neither how much waits to be sent nor when it has left, and credit proves nothing: a client can allow more
without reading. So the daemon asks: after some bytes it sends a PING with a number that cannot be guessed. Messages
arrive in order, so the PONG with that number proves that everything before it was read.
"""

from __future__ import annotations

import asyncio
import secrets

from qied.server.ports.account import Account

ASK_BYTES = 256 * 1024
"""Unproven bytes after which the client is asked."""
CONNECTION_BYTES = 4 * 1024 * 1024
"""Unproven bytes of one connection from which its downloads wait."""
_OVERFLOW_BYTES = 2 * CONNECTION_BYTES


class Backlog:
    """Counts the bytes of one connection, and those of its user."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._sent = 0
        self._proven = 0
        self._held = 0
        self._closed = False
        self._asked: tuple[int, int] | None = None
        self.asked_ms: int | None = None
        """When the question was sent that is still unanswered."""

    @property
    def unread(self) -> int:
        """Bytes that the client is not known to have read."""
        return self._sent - self._proven

    @property
    def overflows(self) -> bool:
        """Whether so much waits that the connection has to end: answers and events cannot be held back."""
        account = self._account
        too_many = account.unread > account.limits.unread_bytes_per_user + _OVERFLOW_BYTES
        return self.unread > _OVERFLOW_BYTES or (too_many and self.unread > ASK_BYTES)

    def sent(self, size: int, now_ms: int) -> int | None:
        """Count a message that was sent; returns the number to ask by PING if it is time to ask."""
        if self._closed:
            return None
        self._sent += size
        self._account.unread += size
        return None if self._asked is not None or self.unread < ASK_BYTES else self._ask(now_ms)

    def wanted(self, now_ms: int) -> int | None:
        """The number to ask by PING where a download of this user waits, and too little was sent to have asked."""
        return self._ask(now_ms) if self._asked is None and self.unread and self._account.waiting else None

    def _ask(self, now_ms: int) -> int:
        nonce = secrets.randbits(63)
        self._asked, self.asked_ms = (nonce, self._sent), now_ms
        return nonce

    def answered(self, nonce: int) -> None:
        """Take a PONG; one that answers no question of ours changes nothing."""
        if self._asked is None or self._asked[0] != nonce:
            return
        self._read_up_to(self._asked[1])
        self._asked = self.asked_ms = None

    def close(self) -> None:
        """The connection is gone, and what waited with it; nothing is counted any more."""
        self._closed = True
        self._read_up_to(self._sent)
        self._asked = self.asked_ms = None

    async def room(self, size: int) -> None:
        """Wait until ``size`` more bytes may be sent, by this connection and by this user, and hold that room."""
        account = self._account
        while (
            self.unread + self._held + size > CONNECTION_BYTES
            or account.unread + size > account.limits.unread_bytes_per_user
        ):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            account.waiting.add(future)
            try:
                await future
            finally:
                account.waiting.discard(future)
        self._held += size
        account.unread += size

    def give_back(self, size: int) -> None:
        """End what ``room`` holds: right before the bytes are sent, or where they never will be."""
        self._held -= size
        self._account.was_read(size)

    def _read_up_to(self, sent: int) -> None:
        read, self._proven = sent - self._proven, sent
        self._account.was_read(read)
