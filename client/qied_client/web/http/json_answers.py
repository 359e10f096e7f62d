"""Answers of JSON, whatever text is in them, and long ones in pieces that are not put together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.responses import JSONResponse, StreamingResponse


class Json(JSONResponse):
    """JSON in ASCII: text of a request may have half of a surrogate pair, which UTF-8 cannot have."""

    def render(self, content: Any) -> bytes:
        return as_json(content)


def as_json(content: Any) -> bytes:
    """A value as JSON in ASCII; raises ValueError for numbers that JSON does not have."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def json_in_pieces(pieces: Sequence[bytes]) -> StreamingResponse:
    """JSON that is there in pieces, which are sent as they are: who asks often for much takes no memory for copies."""

    async def sent() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
            await asyncio.sleep(0)

    headers = {"Content-Length": str(sum(map(len, pieces)))}
    return StreamingResponse(sent(), headers=headers, media_type="application/json")
