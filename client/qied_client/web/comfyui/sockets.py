"""The WebSocket of a client: what it is told, and pictures on the way, which it may miss where it reads slowly."""

from __future__ import annotations

import asyncio
import json
import struct
from collections import deque
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

_PREVIEW: Final = 1
_PREVIEW_WITH_METADATA: Final = 4
JPEG, PNG = 1, 2
"""ComfyUI's numbers of picture formats."""
_UNREAD: Final = 1000
"""Messages that wait for a client at most; one that leaves more unread is given up."""
FEATURES: Final = {"supports_preview_metadata": True, "supports_progress_text_metadata": False}


def preview_frame(data: bytes, kind: int = JPEG) -> bytes:
    """A picture as clients of every version know it: event and format, 32 bits each, the highest byte first."""
    return struct.pack(">II", _PREVIEW, kind) + data


def preview_frame_with_metadata(data: bytes, node: str, prompt: str) -> bytes:
    """A JPEG with the node that it is of: event, length of a JSON object, that object, the picture."""
    facts = {"node_id": node, "display_node_id": node, "parent_node_id": None, "real_node_id": node}
    about = json.dumps({**facts, "prompt_id": prompt, "image_type": "image/jpeg"}).encode()
    return struct.pack(">II", _PREVIEW_WITH_METADATA, len(about)) + about + data


class Socket:
    """One connection, of the client that calls itself ``sid``. What is told is sent in order."""

    def __init__(self, sid: str) -> None:
        self.sid = sid
        self.with_metadata = False
        self._waiting: deque[str | bytes] = deque()
        self._preview: bytes | None = None
        self._changed = asyncio.Event()
        self._over = False

    def tell(self, event: str, data: dict[str, Any]) -> None:
        """Send a message as soon as those before it are sent."""
        if self._over:
            return
        if self._preview is not None:  # it belongs before what is told now
            self._waiting.append(self._preview)
            self._preview = None
        self._waiting.append(json.dumps({"type": event, "data": data}))
        self._over = len(self._waiting) > _UNREAD
        self._changed.set()

    def show(self, frame: bytes, *, needed: bool = False) -> None:
        """Send a picture; one on the way takes the place of an older one that was not sent yet."""
        if needed:
            self._waiting.append(frame)
        else:
            self._preview = frame
        self._changed.set()

    def close(self) -> None:
        """End the connection."""
        self._over = True
        self._changed.set()

    async def run(self, websocket: WebSocket) -> None:
        """Serve an accepted connection to its end."""
        reading = asyncio.ensure_future(self._read(websocket))
        sending = asyncio.ensure_future(self._send(websocket))
        try:
            await asyncio.wait([reading, sending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, sending):
                task.cancel()
            await asyncio.gather(reading, sending, return_exceptions=True)

    async def _send(self, websocket: WebSocket) -> None:
        while not self._over:
            self._changed.clear()
            while self._waiting and not self._over:
                await _sent(websocket, self._waiting.popleft())
            if self._preview is not None:
                frame, self._preview = self._preview, None
                await _sent(websocket, frame)
            if not self._waiting and not self._over:
                await self._changed.wait()
        await websocket.close(1008)

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
