"""Has work on pixels done by child processes: a piece at a time for each user."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, BinaryIO, Final, cast

from qied_client.errors import PictureUnreadable, SetupError
from qied_client.installing import install_extra
from qied_client.web.pixels.messages import (
    ANSWER_BYTES,
    DONE,
    LENGTH,
    REFUSED,
    Ended,
    error_from_json,
    read,
    too_costly,
)

_MODULE: Final = "qied_client.web.pixels.child"
_NO_THREADS: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Each thread of a library would take address space, which is limited."""
_WALL_S: Final = 150.0
"""Seconds for one piece of work where it does not compute, or other programs have the processors."""
_CHILDREN: Final = 2
_IDLE_S: Final = 60.0
_END_AGAIN_S: Final = 0.1


class Workshop:
    """A picture may be made to take minutes or all memory, or to crash its decoder: then the child ends, not the door.

    A user has one piece of work in the line, so that none waits for all that another one asks; nor for one that takes
    long, as there is a second child. Belongs to one loop.
    """

    def __init__(self, wall_s: float = _WALL_S) -> None:
        self._wall_s = wall_s
        self._own: dict[str, asyncio.Lock] = {}
        self._places = asyncio.Semaphore(_CHILDREN)
        self._children = [_Child() for _ in range(_CHILDREN)]
        self._free = [*self._children]
        self._threads = ThreadPoolExecutor(_CHILDREN, thread_name_prefix="pixels")
        self._idle: asyncio.TimerHandle | None = None

    async def do(self, user: str, work: str, *files: bytes, **options: Any) -> bytes:
        """What ``work`` makes of files; raises PictureError and its kinds, InvalidRequest, SetupError without Pillow.

        Cancelling ends it at once.
        """
        if find_spec("PIL") is None:
            raise SetupError("This server lacks Pillow.", f"Install it: {install_extra('qied-client[pictures]')}")
        async with self._own.setdefault(user, asyncio.Lock()), self._places:
            if self._idle is not None:
                self._idle.cancel()
            child = self._free.pop()
            try:
                return await self._done(child, work, files, options)
            finally:
                self._free.append(child)
                if len(self._free) == _CHILDREN:
                    self._idle = asyncio.get_running_loop().call_later(_IDLE_S, self._end_all)

    def close(self) -> None:
        """End the children."""
        if self._idle is not None:
            self._idle.cancel()
        self._end_all()
        self._threads.shutdown(wait=False)

    def _end_all(self) -> None:
        for child in self._children:
            child.end()

    async def _done(self, child: _Child, work: str, files: tuple[bytes, ...], options: dict[str, Any]) -> bytes:
        order = json.dumps({"work": work, "sizes": [len(each) for each in files], "options": options}).encode()
        doing = asyncio.get_running_loop().run_in_executor(self._threads, child.exchange, order, files)
        late = False
        try:
            late = not (await asyncio.wait({doing}, timeout=self._wall_s))[0]
        finally:
            while not doing.done():
                child.end()  # again, since the thread may have been about to start the process
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({doing}, timeout=_END_AGAIN_S)
            doing.exception()  # looked at here, since after a cancel it is not awaited
        if late:
            raise too_costly(f"{self._wall_s:g} s")
        return await doing


class _Child:
    """One process at most. ``exchange`` blocks; ``end`` may come from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def exchange(self, order: bytes, files: tuple[bytes, ...]) -> bytes:
        """Send an order, and return the answer; raises what is refused, and PictureUnreadable where the child ends."""
        process = self._started()
        try:
            for piece in (LENGTH.pack(len(order)), order, *files):
                cast("BinaryIO", process.stdin).write(piece)
            cast("BinaryIO", process.stdin).flush()
            source = cast("BinaryIO", process.stdout)
            status, (length,) = read(source, 1), LENGTH.unpack(read(source, LENGTH.size))
            if status not in (DONE, REFUSED) or length > ANSWER_BYTES:
                raise Ended
            answer = read(source, length)
        except (OSError, ValueError, Ended):  # ValueError: of a pipe that `end` has closed
            self.end()
            raise PictureUnreadable(
                "The picture takes too long, or makes its decoder end.", "Save the picture again as PNG."
            ) from None
        if status == REFUSED:
            raise error_from_json(answer)
        return answer

    def end(self) -> None:
        """End the process at once, if there is one."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            _reap(process)

    def _started(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._process is not None and self._process.poll() is not None:  # killed from outside
                _reap(self._process)
                self._process = None
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", _MODULE],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, **_NO_THREADS},
                )
            return self._process


def _reap(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            cast("BinaryIO", pipe).close()
    process.wait()
