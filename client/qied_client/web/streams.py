"""Answers that take a while: given up when the caller leaves, and events of several sources as one stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do the work unless the caller closes the connection first; raises ClientDisconnect then, with the work cancelled.

    Only after the body was read: what comes then is the end of the connection.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def merged(sources: Sequence[AsyncIterator[T]]) -> AsyncIterator[T]:
    """Items of all sources as they come, until each has ended; the first that fails ends all."""
    items: asyncio.Queue[T] = asyncio.Queue(maxsize=1)

    async def pass_on(source: AsyncIterator[T]) -> None:
        async for item in source:
            await items.put(item)

    passing = [asyncio.ensure_future(pass_on(source)) for source in sources]
    try:
        pending: set[asyncio.Future[Any]] = set(passing)
        while pending:
            taking = asyncio.ensure_future(items.get())
            try:
                await asyncio.wait([taking, *pending], return_when=asyncio.FIRST_COMPLETED)
                if taking.done():
                    yield taking.result()
            finally:
                taking.cancel()
            for task in [task for task in pending if task.done()]:
                pending.discard(task)
                task.result()
        while not items.empty():
            yield items.get_nowait()
    finally:
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)
