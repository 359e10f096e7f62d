"""An event loop in its own thread, of the kind that ZeroMQ's sockets need on every system."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from qied_client.errors import DaemonUnreachable, InvalidRequest, SocketUnavailable
from qied_client.net.descriptors import FOR_A_CLIENT, require_descriptors
from qied_client.net.interrupts import HeldInterrupts
from qied_client.net.notes import add_note

T = TypeVar("T")

_CLOSING_S = 1.0
_ENDING_S = 1.5
"""Seconds for work that is interrupted to end in order."""
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
            with HeldInterrupts():
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

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Call ``work`` and do what it returns in the loop; waits for the end, and raises what the work raises.

        For any thread but the loop's own. Ctrl-C cancels the work, which has a moment to end in order.
        """
        if threading.current_thread() is self._thread:
            raise InvalidRequest(
                "The client was called from inside on_progress, where the call would wait for itself.",
                "Set a flag there and call from your own thread, or use AsyncClient.",
            )
        ended, notes = _taken(), list[str]()

        async def ending() -> T:
            try:
                return await work()
            except asyncio.CancelledError as error:
                notes.extend(getattr(error, "__notes__", []))
                raise
            finally:
                ended.release()

        with HeldInterrupts() as interrupts:
            future = self.begin(ending())
            try:
                interrupts.wait(_released_by(future))
            except BaseException as error:  # Ctrl-C, or what a handler of the caller's raises
                future.cancel()
                interrupts.wait(ended, _ENDING_S)
                for note in notes:
                    add_note(error, note)
                raise
            return future.result()

    def close(self) -> None:
        """Stop once the work of other threads has ended; idempotent."""
        with HeldInterrupts() as interrupts:
            with self._lock:
                if self.closed:
                    return
                self.closed = True
                finishing = asyncio.run_coroutine_threadsafe(_finish_others(), self._loop)
            interrupts.wait(_released_by(finishing))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


def _taken() -> threading.Lock:
    """A lock for another thread to release. A signal can interrupt its ``acquire``, and leaves nothing half done."""
    lock = threading.Lock()
    lock.acquire()
    return lock


def _released_by(future: Future[Any]) -> threading.Lock:
    done = _taken()
    future.add_done_callback(lambda _: done.release())
    return done


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
