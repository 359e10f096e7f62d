"""An event loop in its own thread, of the kind that ZeroMQ's sockets need on every system."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, Generic, TypeVar

from qied_client.errors import DaemonUnreachable, InvalidRequest, QiedError, SocketUnavailable
from qied_client.net.descriptors import FOR_A_CLIENT, require_descriptors
from qied_client.net.notes import add_note

T = TypeVar("T")

_CLOSING_S = 1.0
_ENDING_S = 1.5
"""Seconds for work that is interrupted to end in order."""
_SLICE_S = 0.2 if sys.platform == "win32" else None
"""Seconds that a caller waits at a time: on Windows a thread that waits without a limit does not hear Ctrl-C."""
_NOBODYS_DESCRIPTOR = 2**31 - 1


def watches_sockets(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a loop has ``add_reader``, which ZeroMQ's sockets need; the default one of Windows does not."""
    try:
        loop.remove_reader(_NOBODYS_DESCRIPTOR)
    except NotImplementedError:
        return False
    return True


class LoopThread:
    """An event loop in a daemon thread. Raises SocketUnavailable where the system gives neither loop nor thread."""

    def __init__(self, name: str) -> None:
        self.closed = False
        self._lock = threading.Lock()
        require_descriptors(FOR_A_CLIENT)
        try:
            self._loop = asyncio.SelectorEventLoop()  # a loop of the system's own choice may be a proactor
        except OSError as error:
            raise _refused(error) from error
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._loop.close()
            raise _refused(error) from error

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start work in the loop; raises DaemonUnreachable once it is closed."""
        with self._lock:
            if self.closed:
                work.close()
                raise DaemonUnreachable("The client was closed.", "Create a new one.")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work in the loop and wait for its end, in any thread but the loop's own; raises what the work raises."""
        if threading.current_thread() is self._thread:
            work.close()
            raise InvalidRequest(
                "The client was called from inside on_progress, where the call would wait for itself.",
                "Set a flag there and call from your own thread, or use AsyncClient.",
            )
        ending = Ending(work)
        try:
            future = self.begin(ending.run())
        except QiedError:
            work.close()
            raise
        try:
            while not wait([future], _SLICE_S).done:
                pass
            return future.result()
        except BaseException as error:
            if not future.done():  # Ctrl-C: the work has a moment to end in order, and to say what became of it
                future.cancel()
                ending.wait(_ENDING_S)
                for note in ending.notes:
                    add_note(error, note)
            raise

    def close(self) -> None:
        """Stop once the work of other threads has ended; idempotent."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            finishing = asyncio.run_coroutine_threadsafe(_finish_others(), self._loop)
        finishing.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Ending(Generic[T]):
    """Work whose end another thread can wait for after it has cancelled it."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self._ended = threading.Event()
        self.notes: list[str] = []

    async def run(self) -> T:
        """Do the work; keeps the notes that it leaves when it is cancelled."""
        try:
            return await self._work
        except asyncio.CancelledError as error:
            self.notes = getattr(error, "__notes__", [])
            raise
        finally:
            self._ended.set()

    def wait(self, timeout: float) -> None:
        """Wait for the end; work that has not begun is dropped."""
        if not self._ended.wait(timeout):
            with suppress(RuntimeError, ValueError):  # it is at work after all
                if inspect.getcoroutinestate(self._work) == inspect.CORO_CREATED:
                    self._work.close()


async def _finish_others() -> None:
    """Give the tasks that are left a moment to end by themselves, then cancel them."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, slow = await asyncio.wait(others, timeout=_CLOSING_S)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


def _refused(error: Exception) -> SocketUnavailable:
    return SocketUnavailable(
        f"The client cannot start the thread that talks to the daemon: {error}.",
        "Close files, sockets or threads of this program, or raise its limits (ulimit -n, ulimit -u).",
    )
