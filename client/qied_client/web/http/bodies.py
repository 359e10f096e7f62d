"""Bodies of requests within their limits: size, pace, and what all of them together may take."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from starlette.requests import Request
from starlette.types import Message, Receive

from qied_client.net.time_limit import time_limit
from qied_client.web.errors import ApiError

BODY_BYTES: Final = 320 * 1024 * 1024
"""Most bytes of one form: three pictures and a mask at the limit of 64 MiB each, in their form, and room."""
_SMALL_BYTES: Final = 64 * 1024
"""Most bytes of a body that has no pictures."""
_CHUNK_S: Final = 30.0
"""Seconds to wait for the next piece of a body."""
_SLOWEST: Final = 1024
"""Bytes a second below which a body that has taken ``_CHUNK_S`` is too slow: it would hold its place for hours."""


class Room:
    """Bytes of pictures that are on their way, in or out: ``most`` in all, and half of that of one user.

    Something of a user who has nothing else on the way always finds room: it would not get any later, either.
    """

    def __init__(self, most: int = 2 * BODY_BYTES) -> None:
        self._most = most
        self._taken: Counter[str] = Counter()

    def take(self, user: str, size: int) -> None:
        """Take room for so many more bytes of a user; raises ApiError if there is none."""
        own = self._taken[user]
        if own and (self._taken.total() + size > self._most or own + size > self._most // 2):
            raise ApiError(
                503,
                "server_error",
                "too_many_pictures",
                "Too many pictures are on their way at once. Send this request again when others have arrived.",
            )
        self._taken[user] += size

    @contextmanager
    def taken(self, user: str, size: int) -> Iterator[None]:
        """Take room for the time of a ``with`` block; raises ApiError if there is none."""
        self.take(user, size)
        try:
            yield
        finally:
            self.leave(user, size)

    def leave(self, user: str, size: int) -> None:
        """Give it back."""
        self._taken[user] -= size
        if not self._taken[user]:
            del self._taken[user]


class Body:
    """Passes on a request's body while it keeps to its size and its pace; it is small unless it is ``taken_in``."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._size = 0
        self._began: float | None = None
        self._whole = False
        self._room: Room | None = None
        self._most = _SMALL_BYTES
        self._user = ""
        self.answered = False
        """Whether the answer has begun: what goes wrong with the body from then on ends the request."""

    @contextmanager
    def taken_in(self, room: Room, user: str, most: int) -> Iterator[None]:
        """Let the body have ``most`` bytes, within ``room``, which is given back at the end."""
        self._room, self._user, self._most = room, user, most
        try:
            yield
        finally:
            room.leave(user, self._size)
            self._room, self._most = None, _SMALL_BYTES

    async def receive(self) -> Message:
        """The next message; raises ApiError for a body that is too large or too slow."""
        try:
            return await self._next()
        except ApiError:
            if self.answered:
                return {"type": "http.disconnect"}
            raise

    async def _next(self) -> Message:
        if self._whole:  # what comes now is the end of the connection, whenever that is
            return await self._receive()
        loop = asyncio.get_running_loop()
        self._began = loop.time() if self._began is None else self._began
        try:
            async with time_limit(_CHUNK_S):
                message = await self._receive()
        except TimeoutError:
            raise _too_slow() from None
        if message["type"] == "http.request":
            self._take(len(message.get("body", b"")))
            self._whole = not message.get("more_body", False)
            taken = loop.time() - self._began
            if not self._whole and taken > _CHUNK_S and self._size < taken * _SLOWEST:
                raise _too_slow()
        return message

    def _take(self, size: int) -> None:
        if self._size + size > self._most:
            raise too_large(self._most)
        if self._room is not None:
            self._room.take(self._user, size)
        self._size += size


@contextmanager
def taken_in(request: Request, user: str, most: int = BODY_BYTES) -> Iterator[None]:
    """Let a request have a body as large as pictures are, or of ``most`` bytes; leave once the daemon has them."""
    body: Body = request.scope["state"]["body"]
    room: Room = request.app.state.room
    with body.taken_in(room, user, most):
        yield


def too_large(most: int = BODY_BYTES) -> ApiError:
    """The answer to a body of more than ``most`` bytes."""
    return ApiError(
        413, "invalid_request_error", "request_too_large", f"This request may have at most {most} bytes. Send less."
    )


def _too_slow() -> ApiError:
    return ApiError(
        408, "invalid_request_error", "request_too_slow", f"Nothing came for {_CHUNK_S:g} s. Send the request again."
    )
