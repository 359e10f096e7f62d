"""The Python client in a process of its own: it follows the same edits without the gateway, and notes when."""

from __future__ import annotations

import asyncio
import time
from multiprocessing.connection import Connection
from pathlib import Path

from qied_client.aio import AsyncClient
from wire_bench.child import questions

from web_bench.pages import OUTCOME, Mark

_LOOK_S = 0.2


class Follower:
    """One user's client, which takes up all jobs that it sees running."""

    def __init__(self, key: Path, marks: dict[Mark, float]) -> None:
        self._client = AsyncClient(key)
        self._marks = marks
        self._known: set[str] = set()
        self._following: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Look for new jobs until cancelled."""
        async with self._client as client:
            while True:
                for row in (await client.status()).jobs:
                    if row.job is not None and row.job not in self._known:
                        self._known.add(row.job)
                        task = asyncio.create_task(self._follow(row.job))
                        self._following.add(task)
                        task.add_done_callback(self._following.discard)
                await asyncio.sleep(_LOOK_S)

    async def _follow(self, name: str) -> None:
        first = True
        job = await self._client.job(name)
        async for news in job.events():
            if not first:  # the first is where it stands, which was told to others before
                self._marks.setdefault((name, news.kind, news.done), time.monotonic())
            first = False
        self._marks[name, OUTCOME, 0] = time.monotonic()


def serve_followers(pipe: Connection, keys: list[Path]) -> None:
    """In a child process: follow all users' edits; any question is answered with the marks since the last."""
    asyncio.run(_serve(pipe, keys))


async def _serve(pipe: Connection, keys: list[Path]) -> None:
    marks: dict[Mark, float] = {}
    running = [asyncio.create_task(Follower(key, marks).run()) for key in keys]
    asked = questions(pipe)
    while await asyncio.to_thread(next, asked, None) is not None:
        for task in running:
            if task.done():
                task.result()
        pipe.send(dict(marks))
        marks.clear()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
