"""Many open pages in one process: each reads its user's stream of events, and notes when it came."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

from wire_bench.child import questions

from web_bench.http import chunks, open_stream, request

Mark = tuple[str, str, int]
"""A job, the kind of its news, and how many steps are done."""
OUTCOME = "outcome"
"""In place of the kind: the end."""


@dataclass
class Seen:
    """When each page got which mark, in seconds of the machine's monotonic clock; ``statuses`` counts the others.

    ``marks`` has an entry for each page, ``users`` the number of its user.
    """

    marks: list[dict[Mark, float]]
    users: list[int]
    statuses: int = 0


class Pages:
    """``count`` streams, spread over the users' tokens."""

    def __init__(self, port: int, tokens: list[str], count: int) -> None:
        self._port, self._tokens, self._count = port, tokens, count
        self._seen = self._none()
        self._reading: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Open all; returns once each has had its first event."""
        opened = asyncio.Semaphore(0)
        for number in range(self._count):
            self._reading.append(asyncio.create_task(self._read(number, opened)))
        for _ in range(self._count):
            await opened.acquire()

    def take(self) -> Seen:
        """What was seen since the last time; raises SystemExit if a page has lost its stream."""
        for task in self._reading:
            if task.done():
                raise SystemExit(f"A page has lost its stream: {task.exception()!r}")
        seen, self._seen = self._seen, self._none()
        return seen

    def _none(self) -> Seen:
        users = [number % len(self._tokens) for number in range(self._count)]
        return Seen([{} for _ in users], users)

    async def _read(self, number: int, opened: asyncio.Semaphore) -> None:
        token = self._tokens[number % len(self._tokens)]
        reader, writer = await open_stream(self._port, request("GET", "/api/events", token))
        first = True
        async for chunk in chunks(reader):
            now = time.monotonic()
            if first:
                first = False
                opened.release()
            for event in chunk.split(b"\r\n\r\n"):
                name, _, data = event.partition(b"\r\n")
                if name == b"event: job":
                    told = json.loads(data.removeprefix(b"data: "))
                    self._seen.marks[number].setdefault((told["job"], told["kind"], told["done"]), now)
                elif name == b"event: outcome":
                    self._seen.marks[number][json.loads(data.removeprefix(b"data: "))["job"], OUTCOME, 0] = now
                else:
                    self._seen.statuses += name == b"event: status"
        writer.close()


def serve_pages(pipe: Connection, port: int, tokens: list[str], count: int) -> None:
    """In a child process: open the pages; any question is answered with what they have Seen since the last."""
    asyncio.run(_serve(pipe, Pages(port, tokens, count)))


async def _serve(pipe: Connection, pages: Pages) -> None:
    await pages.open()
    asked = questions(pipe)
    while await asyncio.to_thread(next, asked, None) is not None:
        pipe.send(pages.take())
