"""A driver in its own thread, for event loops that cannot watch sockets, such as the default one of Windows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from qied_client.connection import Connection
from qied_client.errors import QiedError
from qied_client.net.driver import Driver, OnMove, closed_error
from qied_client.net.loop_thread import LoopThread
from qied_client.net.transport import Endpoint
from qied_client.protocol import messages as m
from qied_client.transfers import Source

T = TypeVar("T")


class Bridge:
    """Offers ``Driver`` to a caller in one loop and runs it in another.

    Its methods are those of ``Driver``, and all callbacks run in the caller's loop, except
    ``endpoint``. Made in the caller's loop.
    """

    def __init__(
        self,
        connection: Connection,
        endpoint: Callable[[], Endpoint],
        on_push: Callable[[m.Message], None],
        on_failure: Callable[[QiedError], None],
        patience_s: float,
        *,
        first_patience_s: float | None = None,
        on_absence: Callable[[bool], None] = lambda absent: None,
    ) -> None:
        self._caller = asyncio.get_running_loop()
        self._driver = Driver(
            connection,
            endpoint,
            lambda message: self._tell(on_push, message),
            lambda error: self._tell(on_failure, error),
            patience_s,
            first_patience_s=first_patience_s,
            on_absence=lambda absent: self._tell(on_absence, absent),
        )
        self._thread: LoopThread | None = None
        self._closed = False

    async def start(self) -> m.Message:
        """See ``Driver.start``; raises SocketUnavailable if no thread can be started."""
        return await self._across(self._driver.start())

    async def ask(self, make: Callable[[int], m.Message]) -> Any:
        return await self._across(self._driver.ask(make))

    async def upload(self, blob_hash: str, source: Source, on_move: OnMove | None = None) -> None:
        await self._moving(lambda move: self._driver.upload(blob_hash, source, move), on_move)

    async def download(self, blob_hash: str, on_move: OnMove | None = None) -> bytes:
        return await self._moving(lambda move: self._driver.download(blob_hash, move), on_move)

    async def follow(self, job: str, after: int = 0) -> m.Resumed:
        return await self._across(self._driver.follow(job, after))

    def unfollow(self, job: str) -> None:
        self._post(self._driver.unfollow, job)

    def say(self, message: m.Message) -> None:
        self._post(self._driver.say, message)

    async def close(self) -> None:
        """See ``Driver.close``; it runs to its end even if the caller stops waiting."""
        self._closed = True
        if self._thread is not None:
            await asyncio.to_thread(self._close, self._thread)

    def _close(self, thread: LoopThread) -> None:
        if not thread.closed:
            thread.run(self._driver.close)
            thread.close()

    async def _moving(self, work: Callable[[OnMove | None], Coroutine[Any, Any, T]], on_move: OnMove | None) -> T:
        """Carry a transfer out; an error of the caller's ``on_move`` ends it and is raised."""
        if on_move is None:
            return await self._across(work(None))
        answer: asyncio.Future[T] = self._caller.create_future()

        def moved(done: int, total: int) -> None:
            try:
                if not answer.done():
                    on_move(done, total)
            except Exception as error:  # noqa: BLE001 - the caller's own code: its error is the caller's
                answer.set_exception(error)

        return await self._across(work(lambda done, total: self._tell(moved, done, total)), answer)

    async def _across(self, work: Coroutine[Any, Any, T], answer: asyncio.Future[T] | None = None) -> T:
        """Run work in the driver's loop; cancelling here ends it there. Callbacks on the way come before the end.

        ``answer`` may be settled here before the work has ended, which ends it as well.
        """
        waiting = self._caller.create_future() if answer is None else answer
        try:
            there = self._loop_thread().begin(work)
        except QiedError:
            work.close()
            raise
        there.add_done_callback(lambda done: self._tell(_copy, done, waiting))
        try:
            return await waiting
        finally:
            there.cancel()

    def _loop_thread(self) -> LoopThread:
        if self._closed:
            raise closed_error()
        if self._thread is None:
            self._thread = LoopThread("qied connection")
        return self._thread

    def _post(self, call: Callable[..., None], *arguments: Any) -> None:
        """Call something in the driver's loop, after what was asked of it before; not without a connection."""

        async def calling() -> None:
            call(*arguments)

        if self._thread is not None:
            with suppress(QiedError):
                self._thread.begin(calling())

    def _tell(self, call: Callable[..., None], *arguments: Any) -> None:
        """Call something in the caller's loop, unless that is closed."""
        with suppress(RuntimeError):
            self._caller.call_soon_threadsafe(call, *arguments)


def _copy(done: Future[T], waiting: asyncio.Future[T]) -> None:
    """Pass on how work ended, unless ``waiting`` is done already."""
    if waiting.done():
        return
    if done.cancelled():
        waiting.set_exception(closed_error())
    elif (error := done.exception()) is not None:
        waiting.set_exception(error)
    else:
        waiting.set_result(done.result())
