"""Answers with pictures in them, encoded piece by piece: a large one neither holds others up nor is copied whole."""

from __future__ import annotations

import asyncio
import binascii
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from qied_client.web.http.bodies import Room

_PIECE: Final = 96 * 1024
"""Bytes that are encoded or sent at a time; a multiple of three, which base64 does not pad."""


class WithPictures:
    """Text, such as JSON, that ``make`` writes around pictures.

    ``make`` gets a function from a picture to what stands for its base64 in the text. ``size`` is what the pictures
    take, ``length`` what all of it has, in bytes.
    """

    def __init__(self, make: Callable[[Callable[[bytes], str]], bytes]) -> None:
        self._pictures: list[bytes] = []
        mark = secrets.token_hex(16)

        def stand_in(picture: bytes) -> str:
            self._pictures.append(picture)
            return f"{mark}{len(self._pictures) - 1};"

        self._parts = re.split(mark.encode() + rb"\d+;", make(stand_in))
        self.size = sum(map(len, self._pictures))
        self.length = sum(map(len, self._parts)) + sum((len(each) + 2) // 3 * 4 for each in self._pictures)

    async def pieces(self) -> AsyncIterator[bytes]:
        """All of it; what is small comes at once."""
        waiting = b""
        for number, part in enumerate(self._parts):
            waiting += part
            picture = memoryview(self._pictures[number] if number < len(self._pictures) else b"")
            for offset in range(0, len(picture), _PIECE):
                waiting += binascii.b2a_base64(picture[offset : offset + _PIECE], newline=False)
                if len(waiting) >= _PIECE:
                    yield waiting
                    waiting = b""
                    await asyncio.sleep(0)
        if waiting:
            yield waiting


def json_with_pictures(make: Callable[[Callable[[bytes], str]], Any], room: Room, user: str) -> Response:
    """JSON whose pictures are base64. They count in the user's part of ``room``; raises ApiError if there is none."""
    body = WithPictures(lambda stand_in: json.dumps(make(stand_in)).encode())
    return _Held(body.pieces(), "application/json", {"Content-Length": str(body.length)}, room, user, body.size)


def picture_response(data: bytes, media_type: str, headers: dict[str, str], room: Room, user: str) -> Response:
    """A picture as it is; raises ApiError if there is no ``room`` for it."""
    headers = {**headers, "Content-Length": str(len(data))}
    return _Held(_in_pieces(data), media_type, headers, room, user, len(data))


class _Held(StreamingResponse):
    """What takes room until it is sent."""

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        media_type: str,
        headers: dict[str, str],
        room: Room,
        user: str,
        size: int,
    ) -> None:
        super().__init__(pieces, headers=headers, media_type=media_type)
        self._room, self._user, self._bytes = room, user, size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._room.taken(self._user, self._bytes):
            await super().__call__(scope, receive, send)


async def _in_pieces(data: bytes) -> AsyncIterator[bytes]:
    view = memoryview(data)
    for offset in range(0, len(view), _PIECE):
        yield bytes(view[offset : offset + _PIECE])
        await asyncio.sleep(0)
