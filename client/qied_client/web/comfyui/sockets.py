"""The WebSocket of a client: what it is told, and pictures on the way, which it may miss where it reads slowly."""

from __future__ import annotations

import asyncio
import json
import struct
from collections import deque
from contextlib import suppress
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from qied_client.net.time_limit import time_limit

_PREVIEW: Final = 1
_PREVIEW_WITH_METADATA: Final = 4
JPEG, PNG = 1, 2
"""ComfyUI's numbers of picture formats."""
_UNREAD: Final = 1000
"""Messages that wait for a client at most; one that leaves more unread is given up."""
_UNREAD_BYTES: Final = 64 * 1024 * 1024
"""Bytes that wait for all clients of a user, besides one message for each."""
_CLOSING_S: Final = 1.0
"""Seconds in which a client that is given up may still read why."""
FEATURES: Final = {"supports_preview_metadata": True, "supports_progress_text_metadata": False}


def preview_frame(data: bytes, kind: int = JPEG) -> bytes:
    """A picture as clients of every version know it: event and format, 32 bits each, the highest byte first."""
    return struct.pack(">II", _PREVIEW, kind) + data


def preview_frame_with_metadata(data: bytes, node: str, prompt: str) -> bytes:
    """A JPEG with the node that it is of: event, length of a JSON object, that object, the picture."""
    facts = {"node_id": node, "display_node_id": node, "parent_node_id": None, "real_node_id": node}
    about = json.dumps({**facts, "prompt_id": prompt, "image_type": "image/jpeg"}).encode()
    return struct.pack(">II", _PREVIEW_WITH_METADATA, len(about)) + about + data


class Unread:
    """Bytes that wait for the clients of one user: ``most`` in all."""

    def __init__(self, most: int = _UNREAD_BYTES) -> None:
        self.most = most
        self.taken = 0


class Socket:
    """One connection, of the client that calls itself ``sid``. What is told is sent in order.

    ``unread`` is shared by the connections of a user.
    """

    def __init__(self, sid: str, unread: Unread | None = None) -> None:
        self.sid = sid
        self.with_metadata = False
        self._unread = unread or Unread()
        self._waiting: deque[str | bytes] = deque()
        self._preview: bytes | None = None
        self._changed = asyncio.Event()
        self._over = False
        self._ended = asyncio.Event()

    def tell(self, event: str, data: dict[str, Any]) -> None:
        """Send a message as soon as those before it are sent."""
        if self._over:
            return
        if self._preview is not None:  # it belongs before what is told now
            preview, self._preview = self._preview, None
            self._put(preview)
        self._put(json.dumps({"type": event, "data": data}))

    def show(self, frame: bytes, *, needed: bool = False) -> None:
        """Send a picture; one on the way takes the place of an older one that was not sent yet."""
        if needed:
            self._put(frame)
        elif not self._over:
            self._preview = frame
            self._changed.set()

    def close(self) -> None:
        """End the connection; what waits is not sent any more."""
        self._over = True
        self._preview = None
        while self._waiting:
            self._taken()
        self._ended.set()

    def _put(self, message: str | bytes) -> None:
        if self._over:
            return
        full = self._waiting and self._unread.taken + len(message) > self._unread.most
        if full or len(self._waiting) >= _UNREAD:
            self.close()
            return
        self._waiting.append(message)
        self._unread.taken += len(message)
        self._changed.set()

    def _taken(self) -> str | bytes:
        message = self._waiting.popleft()
        self._unread.taken -= len(message)
        return message

    async def run(self, websocket: WebSocket) -> None:
        """Serve an accepted connection to its end."""
        works = self._read(websocket), self._send(websocket), self._ended.wait()
        tasks = [asyncio.ensure_future(work) for work in works]
        ended = tasks[-1]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            given_up = ended.done()
            self.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if given_up:
            with suppress(TimeoutError, WebSocketDisconnect):
                async with time_limit(_CLOSING_S):
                    await websocket.close(1008)

    async def _send(self, websocket: WebSocket) -> None:
        while True:
            self._changed.clear()
            while self._waiting:
                await _sent(websocket, self._taken())
            if self._preview is not None:
                frame, self._preview = self._preview, None
                await _sent(websocket, frame)
            if not self._waiting:
                await self._changed.wait()

    async def _read(self, websocket: WebSocket) -> None:
        first = True
        while True:
            try:
                text = await websocket.receive_text()
            except (WebSocketDisconnect, KeyError):  # a client that left, or sent bytes
                return
            if first:
                self._negotiate(text)
            first = False

    def _negotiate(self, text: str) -> None:
        """What a client says first may be what it knows of."""
        try:
            message = json.loads(text)
            flags = message["data"] if message["type"] == "feature_flags" else None
        except (ValueError, TypeError, KeyError, RecursionError):
            return
        if isinstance(flags, dict):
            self.with_metadata = bool(flags.get("supports_preview_metadata"))
            self.tell("feature_flags", FEATURES)


async def _sent(websocket: WebSocket, message: str | bytes) -> None:
    if isinstance(message, str):
        await websocket.send_text(message)
    else:
        await websocket.send_bytes(message)
