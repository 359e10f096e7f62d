"""The ``on_progress`` of one call: it takes news, and its errors end this call and nothing else."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from qied_client.results import OnProgress, Progress

T = TypeVar("T")
Tell = Callable[[Progress], None]


def _is_cancelled(task: asyncio.Task[Any] | None) -> bool:
    """Whether somebody cancels a task; Python 3.10 cannot tell."""
    return task is not None and sys.version_info >= (3, 11) and task.cancelling() > 0


class Listener:
    """Passes news on to ``on_progress``, from wherever they come; without one they are dropped."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress
        self._error: Exception | None = None
        self._work: asyncio.Task[Any] | None = None

    @property
    def listens(self) -> bool:
        """Whether the call has an ``on_progress``."""
        return self._on_progress is not None

    def __call__(self, news: Progress) -> None:
        """Pass news on. Never raises: an error of ``on_progress`` is raised by ``during``."""
        if self._on_progress is None or self._error is not None:
            return
        try:
            self._on_progress(news)
        except Exception as error:  # noqa: BLE001 - the caller's own code: its error is the caller's
            self._error = error
            if self._work is not None:
                self._work.cancel()

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work that the news are of; raises what ``on_progress`` raised, which ends the work."""
        if self._on_progress is None:
            return await work
        task: asyncio.Task[T] = asyncio.create_task(work)
        self._work = task
        try:
            result = await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if self._error is None or _is_cancelled(current):
                raise
            raise self._error from None
        if self._error is not None:
            raise self._error
        return result
