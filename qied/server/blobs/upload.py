"""One blob being received: bytes in order to a partial file, checked against the announced hash at the end."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from qied_client.errors import BlobMismatch, ProtocolError

from qied.disk_sync import sync_file, sync_folder
from qied.server.blobs.ledger import BlobLedger, Kept
from qied.server.disk_failures import disk_failure

_READ_BYTES = 1 << 20


class Upload:
    """An open upload; ``offset`` is where it continues. Blocking; any thread, one call at a time is carried out.

    It ends with ``finish`` or ``suspend``, or with an error that says so; its space is given back then.
    """

    def __init__(
        self,
        partial: Path,
        final: Path,
        size: int,
        *,
        ledger: BlobLedger,
        clock: Callable[[], float],
        stored: bool = False,
    ) -> None:
        """Continue ``partial``, which is open in ``ledger``; raises DiskFull, DiskUnavailable or BlobError.

        With ``stored`` the blob is there already: ``offset`` is at its end, and ``finish`` has nothing to do.
        """
        self.hash = final.name
        self.size = size
        self._partial = partial
        self._final = final
        self._ledger = ledger
        self._clock = clock
        self._lock = Lock()
        self._file: int | None = None
        self._stored = stored
        self._hasher = hashlib.sha256()
        self.offset = size
        if not stored:
            self._open()

    @property
    def stored(self) -> bool:
        """Whether the blob is in the store, so that there is nothing left to write."""
        return self._stored

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Append ``data``, which starts at ``offset`` of the blob.

        Raises ProtocolError out of order or without bytes (the upload stays open), BlobMismatch beyond the announced
        size, DiskFull and BlobError (it has ended, its bytes are gone).
        """
        with self._lock:
            file = self._require_open()
            if offset != self.offset or not data:
                raise ProtocolError(
                    f"A chunk of {len(data)} bytes came at offset {offset}; {self.offset} was expected.",
                    "Send the chunks in order, none of them empty.",
                    expected=self.offset,
                )
            with self._removed_on_failure():
                if offset + len(data) > self.size:
                    raise self._mismatch(f"more than the announced {self.size} bytes came")
                _write_all(file, data)
            self._hasher.update(data)
            self.offset += len(data)
            self._ledger.progress(self._partial.name, self.offset)

    def finish(self) -> None:
        """Check size and hash, and store the blob; it is on disk for good when this returns. May be called again.

        Raises BlobMismatch, DiskFull and BlobError; the partial file is gone then.
        """
        with self._lock:
            if self._stored:
                return
            file = self._require_open()
            with self._removed_on_failure():
                if self.offset != self.size:
                    raise self._mismatch(f"{self.offset} of the announced {self.size} bytes came")
                if self._hasher.hexdigest() != self.hash:
                    raise self._mismatch("the bytes do not match the hash")
                sync_file(file)
                self._close()
                self._move()
                sync_folder(self._final.parent)

    def suspend(self) -> None:
        """End the upload and keep its bytes, so that a later one continues from them. May be called again."""
        with self._lock:
            if self._file is None:
                return
            if self.offset == 0:
                self._remove()
                return
            with self._removed_on_failure():
                sync_file(self._file)
                self._close()
            self._ledger.suspend(self._partial.name, Kept(self.offset, self._clock()))

    def _open(self) -> None:
        with self._removed_on_failure():
            self._file = os.open(self._partial, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
            self.offset = self._hash_prefix(self._file)

    def _move(self) -> None:
        now = self._clock()
        with self._ledger.changing():
            self._partial.replace(self._final)  # in place of one that may be there: these bytes are right
            self._ledger.promote(self._partial.name, self.hash, now)
        self._stored = True

    def _hash_prefix(self, file: int) -> int:
        """Take up what an earlier upload left; more than the announced size cannot be of this blob."""
        if os.fstat(file).st_size > self.size:
            os.ftruncate(file, 0)
        offset = 0
        while chunk := os.read(file, _READ_BYTES):
            self._hasher.update(chunk)
            offset += len(chunk)
        self._ledger.progress(self._partial.name, offset)
        return offset

    @contextmanager
    def _removed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BlobMismatch:
            self._remove()
            raise
        except OSError as error:
            self._remove()
            raise disk_failure(f"The daemon could not write blob {self.hash} to its disk", error) from error

    def _remove(self) -> None:
        self._close()
        with self._ledger.changing():
            if not self._stored:
                with suppress(OSError):  # on a disk that has become read-only
                    self._partial.unlink(missing_ok=True)
                self._ledger.drop(self._partial.name)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _require_open(self) -> int:
        if self._file is None:
            raise ProtocolError("This upload has ended.", "Start it again.")
        return self._file

    def _mismatch(self, problem: str) -> BlobMismatch:
        return BlobMismatch(
            f"Blob {self.hash}: {problem}.", "Upload it again from the start.", hash=self.hash, size=self.size
        )


def _write_all(file: int, data: bytes | memoryview) -> None:
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(file, rest) :]
