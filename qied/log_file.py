"""A log on disk that is always there when somebody asks what happened: JSON lines, bounded, and never in the way."""

from __future__ import annotations

import atexit
import io
import logging
import os
import queue
import threading
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

from qied.disk_sync import make_folder

LOG_FOLDER = "log"
"""Inside the state folder; each process has a file of its own there."""
FILE_BYTES = 4 * 1024 * 1024
FILES = 5
_WAITING_LINES = 1_000
_LAST_S = 1.0


class LogFile:
    """Takes lines and writes them in a thread of its own, to the newest of ``files`` files of ``file_bytes`` bytes.

    A disk that is full, slow or cannot be written to costs lines, and nothing else: it is tried again with each line.
    """

    def __init__(self, path: Path, *, file_bytes: int = FILE_BYTES, files: int = FILES) -> None:
        self.path = path
        self._handler = _Rotating(path, file_bytes, files)
        self._lines: queue.Queue[str | None] = queue.Queue(_WAITING_LINES)
        self._thread = threading.Thread(target=self._write, name="log file", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def add(self, line: str) -> None:
        """Have a line written; it is dropped where the disk does not keep up."""
        with suppress(queue.Full):
            self._lines.put_nowait(line)

    @property
    def waiting(self) -> int:
        """Lines that are not taken up yet."""
        return self._lines.qsize()

    def close(self) -> None:
        """Wait for the last lines, but not for a disk that hangs."""
        with suppress(queue.Full):
            self._lines.put_nowait(None)
            self._thread.join(_LAST_S)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            self._handler.emit(logging.makeLogRecord({"msg": line}))


class _Rotating(RotatingFileHandler):
    """The standard library's rotation, for this user alone; a failure is kept to itself, and the file opened again."""

    def __init__(self, path: Path, file_bytes: int, files: int) -> None:
        super().__init__(path, maxBytes=file_bytes, backupCount=files - 1, encoding="utf-8", delay=True)

    def _open(self) -> io.TextIOWrapper:
        # Synced, as it may be the state folder's first: what is in there later has to survive a loss of power.
        make_folder(Path(self.baseFilename).parent)
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return os.fdopen(descriptor, "a", encoding=self.encoding)

    def handleError(self, record: logging.LogRecord) -> None:
        stream, self.stream = self.stream, None
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.close()


def newest_lines(path: Path, count: int) -> list[str]:
    """The last ``count`` lines of a log and its earlier files, the newest last; what cannot be read is left out."""
    lines: list[str] = []
    for number in range(FILES):
        if len(lines) >= count:
            break
        with suppress(OSError):
            file = path if number == 0 else path.with_name(f"{path.name}.{number}")
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines() + lines
    return lines[-count:]
