"""Server-sent events: made once however many are told, and sent with signs of life between them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing, suppress
from typing import Any, Final

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent

from qied_client.web.access import Admission
from qied_client.web.errors import ApiError
from qied_client.web.http.answers import WithPictures
from qied_client.web.http.bodies import Room

Event = bytes | WithPictures
"""One whole event as it is sent; one with pictures is encoded while that is done."""

_PING_S: Final = 10.0
PING: Final = b": ping\r\n\r\n"
"""A sign of life, which parsers pass over."""
_ENDING_S: Final = 3.0
"""Seconds that a lively stream has to end in order."""
_NEVER_S: Final = 10**9
"""In place of the library's own pings, which may come within an event that is sent in pieces."""


def event(name: str, data: dict[str, Any], number: int | None = None) -> bytes:
    """An event with JSON."""
    return ServerSentEvent(json.dumps(data), event=name, id=None if number is None else str(number)).encode()


def comment(text: str) -> bytes:
    """A line that parsers pass over."""
    return ServerSentEvent(comment=text).encode()


def events_response(
    events: AsyncGenerator[Event, None], room: Room, admission: Admission, *, lively: bool = False
) -> EventSourceResponse:
    """An answer that is a stream of events; the source is closed when its reader leaves, or is let in no longer.

    ``lively``: the source itself gives a sign of life every few seconds, behind which the stream ends in order when
    the gateway ends.
    """
    ending = anyio.Event()
    return EventSourceResponse(
        _pieces(events, events if lively else _with_pings(events), ending, room, admission),
        ping=_NEVER_S,
        headers={"X-Accel-Buffering": "no"},
        shutdown_event=ending,
        shutdown_grace_period=_ENDING_S if lively else 0,
    )


async def _pieces(
    source: AsyncGenerator[Event, None],
    events: AsyncGenerator[Event, None],
    ending: anyio.Event,
    room: Room,
    admission: Admission,
) -> AsyncIterator[bytes]:
    async with aclosing(source), aclosing(events):
        async for each in events:
            if not admission.counts:
                return
            if isinstance(each, bytes):
                yield each
                if ending.is_set():
                    return
                continue
            try:
                with room.taken(admission.user, each.size):
                    async for piece in each.pieces():
                        yield piece
            except ApiError as error:
                yield event("error", error.body())
                return


async def _with_pings(events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    while True:
        coming = asyncio.ensure_future(_next(events))
        try:
            while not coming.done():
                await asyncio.wait([coming], timeout=_PING_S)
                if not coming.done():
                    yield PING
            if (item := coming.result()) is None:
                return
            yield item
        finally:
            if not coming.done():
                coming.cancel()
                with suppress(asyncio.CancelledError):
                    await coming


async def _next(events: AsyncGenerator[Event, None]) -> Event | None:
    waited: Awaitable[Event] = anext(events)
    try:
        return await waited
    except StopAsyncIteration:
        return None
