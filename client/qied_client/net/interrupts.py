"""Ctrl-C for code that waits on another thread: it arrives in the wait, and nowhere else."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from typing_extensions import Self

_SLICE_S = 0.2 if sys.platform == "win32" else -1
"""Seconds that a thread waits at a time, -1 without a limit: on Windows such a wait does not hear Ctrl-C."""


class HeldInterrupts:
    """A block in which Ctrl-C is held back until ``wait``, or else until the block's end.

    Python runs a handler of signals between any two instructions of the main thread, and a
    KeyboardInterrupt there can leave a lock of ``threading`` or ``concurrent.futures`` taken, which
    the other thread then waits for without end, or a coroutine that was made and never awaited.
    Whatever handler SIGINT has in Python is called, only later, as ``asyncio.Runner`` does it too.
    Other threads than the main one hear no signals, so for them the block does nothing. Not
    reentrant, but blocks may be nested.
    """

    def __init__(self) -> None:
        self._waiting = False
        self._held: tuple[int, FrameType | None] | None = None

    def __enter__(self) -> Self:
        self._usual = signal.getsignal(signal.SIGINT)
        self._installed = callable(self._usual) and threading.current_thread() is threading.main_thread()
        if self._installed:
            signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._usual)
        self._deliver()

    def wait(self, lock: threading.Lock, timeout_s: float | None = None) -> bool:
        """Acquire a lock that another thread releases; returns whether that was in time.

        Raises what the handler of SIGINT raises, by default KeyboardInterrupt.
        """
        self._waiting = True
        try:
            self._deliver()
            if timeout_s is not None:
                return lock.acquire(timeout=timeout_s)
            while not lock.acquire(timeout=_SLICE_S):
                pass
            return True
        finally:
            self._waiting = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._held = (number, frame)
        if self._waiting:
            self._deliver()

    def _deliver(self) -> None:
        held, self._held = self._held, None
        if held is not None and callable(self._usual):
            self._usual(*held)
