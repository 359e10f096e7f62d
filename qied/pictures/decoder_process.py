"""A process that decodes pictures, as its worker sees it: started when needed, used again, and killed at any time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO

from PIL import Image
from qied_client.errors import PictureError, PictureUnreadable
from qied_client.pixels.opacity import Guess

from qied.pictures.decoder_messages import (
    DECODED,
    LENGTH,
    MAX_ERROR,
    REFUSED,
    REQUEST,
    DecodeOrder,
    error_from_json,
    too_costly,
)
from qied.pictures.mask import GUESSES

_MODULE = "qied.pictures.decoder_child"
_NO_THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Each thread of a library would take address space, which is limited."""


class DecoderKilled(Exception):
    """The picture that was being decoded is not wanted any more."""


class _Ended(Exception):
    """The process has ended in the middle of a picture."""


class Decoder:
    """One child process at most. ``decode`` blocks, one call at a time; ``kill`` may come from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._unwanted = False

    @property
    def pid(self) -> int | None:
        """Process id of the child, if there is one."""
        return None if self._process is None else self._process.pid

    def wanted(self) -> None:
        """A picture comes: from now on ``kill`` is meant for it."""
        self._unwanted = False

    def decode(self, data: bytes, order: DecodeOrder) -> tuple[list[Image.Image], Guess]:
        """Return the views that were ordered of a file's picture, and what a mask was taken for.

        Raises PictureError and its kinds, and DecoderKilled. A process that ends without reason is started again
        and gets the file once more, as it may have been killed from outside.
        """
        for last in (False, True):
            process = self._running()
            try:
                return _exchange(process, data, order)
            except _Ended:
                code = self._reap(process)
            if self._unwanted:
                raise DecoderKilled
            if code == -signal.SIGPROF:
                raise too_costly(f"{order.cpu_s:g} s")
            if last:
                raise PictureUnreadable(
                    f"The picture makes its decoder end ({_named(code)}).", "Save the picture again as PNG."
                )
        raise AssertionError

    def kill(self) -> None:
        """End the process at once; ``decode`` then raises DecoderKilled."""
        with self._lock:
            self._unwanted = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """End the process, and wait until it has ended."""
        self.kill()
        if (process := self._process) is not None:
            self._reap(process)

    def _running(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._unwanted:
                raise DecoderKilled
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", _MODULE],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    bufsize=0,
                    env={**os.environ, **_NO_THREADS},
                )
            return self._process

    def _reap(self, process: subprocess.Popen[bytes]) -> int:
        for pipe in _pipes(process):
            with suppress(OSError):
                pipe.close()
        process.kill()
        with self._lock:
            self._process = None
        return process.wait()


def _exchange(process: subprocess.Popen[bytes], data: bytes, order: DecodeOrder) -> tuple[list[Image.Image], Guess]:
    target, source = _pipes(process)
    text = order.to_json()
    try:
        for piece in (REQUEST.pack(len(text), len(data)) + text, data):
            _write(target, piece)
        status = _read(source, 1)
        if status == DECODED:
            (guess,) = _read(source, 1)
            if guess >= len(GUESSES):
                raise _Ended
            views = [
                Image.frombytes(order.mode(view), order.size(view), _read(source, size))
                for view, size in zip(order.views, order.sizes, strict=True)
            ]
            return views, GUESSES[guess]
        (length,) = LENGTH.unpack(_read(source, LENGTH.size))
        error: PictureError = error_from_json(_read(source, min(length, MAX_ERROR)))
    except OSError as lost:
        raise _Ended from lost
    if status != REFUSED:
        raise _Ended
    raise error


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _write(target: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[target.write(rest) :]


def _read(source: IO[bytes], count: int) -> bytes:
    whole = bytearray(count)
    rest = memoryview(whole)
    while rest:
        got = source.readinto(rest)  # type: ignore[attr-defined]
        if not got:
            raise _Ended
        rest = rest[got:]
    return bytes(whole)


def _named(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit {code}"
