"""The bytes gathered of one file, hashed while they are written."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, BinaryIO, Final

from qied.downloads.wanted import RemoteFile

if TYPE_CHECKING:
    from hashlib import _Hash

_READ_BYTES: Final = 4 * 1024 * 1024


class Partial:
    """An open file that grows piece by piece; what it holds at the beginning is read once, for its hash."""

    def __init__(self, stored: BinaryIO, file: RemoteFile) -> None:
        self._stored = stored
        self._file = file
        self._hash = new_hash(file.hash, file.bytes)
        if stored.seek(0, io.SEEK_END) > file.bytes:
            stored.truncate(0)
        stored.seek(0)
        while chunk := stored.read(_READ_BYTES):
            self._hash.update(chunk)
        self.bytes = stored.tell()

    @property
    def lacks(self) -> bool:
        """Whether bytes are still to come."""
        return self.bytes < self._file.bytes

    @property
    def is_right(self) -> bool:
        """Whether the bytes have the hash by which the hub knows the file."""
        return self._hash.hexdigest() == self._file.hash

    def fits(self, piece: bytes) -> bool:
        """Whether the file has not more bytes than listed with this piece."""
        return self.bytes + len(piece) <= self._file.bytes

    def append(self, piece: bytes) -> None:
        """Write the next bytes."""
        self._stored.write(piece)
        self._hash.update(piece)
        self.bytes += len(piece)

    def restart(self) -> None:
        """Forget what was gathered."""
        self._stored.truncate(self._stored.seek(0))
        self._hash = new_hash(self._file.hash, self._file.bytes)
        self.bytes = 0


def new_hash(like: str, size: int) -> _Hash:
    """Begin the hash of ``size`` bytes: SHA-256 where ``like`` has 64 digits, else the SHA-1 of git's blob."""
    if len(like) == 64:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
