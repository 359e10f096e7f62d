"""Whether a worker's process is wanted, and how one that is not is ended."""

from __future__ import annotations

import asyncio

from qied.server.workers.process import WorkerProcess

_LEAVE_S = 2.0
"""Seconds that a process has to leave by itself before it is killed."""


class Wanted:
    """Whether one worker's process is wanted.

    ``wanted`` is clear while the worker is unloaded; ``unloads`` counts how often it was.
    """

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.wanted.set()
        self.unloads = 0
        self._ending: WorkerProcess | None = None

    def unload(self, process: WorkerProcess | None) -> None:
        """The process is no longer wanted; ``leave`` then ends it."""
        self.wanted.clear()
        self.unloads += 1
        self._ending = process

    def started_in_vain(self, process: WorkerProcess, unloads: int) -> bool:
        """Whether a process came up after it was unloaded; ``unloads`` is their count when it was begun."""
        if self.unloads == unloads:
            return False
        self._ending = process
        return True

    def load(self) -> None:
        """A process is wanted again."""
        self.wanted.set()

    def ended_on_request(self, process: WorkerProcess) -> bool:
        """Whether this process, which has ended, was to end: then nothing is lost with it."""
        return process is self._ending


async def leave(process: WorkerProcess) -> None:
    """Have a process leave, and kill it if it takes its time."""
    process.close_input()
    try:
        async with asyncio.timeout(_LEAVE_S):
            await process.wait()
    except TimeoutError:
        process.kill()
