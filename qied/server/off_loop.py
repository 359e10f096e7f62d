"""Between the event loop and threads: blocking work off the loop, and what only the loop may look at for a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def off_loop(executor: Executor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``work`` in the executor. A cancellation takes effect once it has ended, so that no two overlap."""
    future = asyncio.get_running_loop().run_in_executor(executor, lambda: work(*args, **kwargs))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise


def ask_loop(loop: asyncio.AbstractEventLoop, look: Callable[[], T], timeout_s: float) -> T:
    """Have the loop call ``look``, and wait for what it returns or raises; never from the loop's own thread.

    Raises TimeoutError if the loop does not come to it within so many seconds, or has ended.
    """
    answer: Future[T] = Future()

    def call() -> None:
        if answer.set_running_or_notify_cancel():
            try:
                answer.set_result(look())
            except BaseException as error:  # noqa: BLE001 - for who waits
                answer.set_exception(error)

    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError as error:
        raise TimeoutError("the event loop has ended") from error
    try:
        return answer.result(timeout_s)
    finally:
        answer.cancel()
