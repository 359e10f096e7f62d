"""Reading an untrusted file in small, counted pieces."""

from __future__ import annotations

import os
import re
from typing import BinaryIO

from qied_client.errors import PictureUnreadable

MAX_PIECE = 64 * 1024
MAX_TOTAL = 1024 * 1024


class BoundedReader:
    """A cursor over a seekable file that hands out at most 64 KiB at a time and 1 MiB in all.

    Skipping costs nothing against the total: it moves the cursor and reads no bytes. Lengths found in the file may
    therefore be passed on as they are. Finding reads what it passes over, and that does not count either.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        self._position = file.seek(0)
        self._left = MAX_TOTAL

    @property
    def position(self) -> int:
        """Offset in bytes of the next read from the start of the file; may lie beyond its end."""
        return self._position

    def peek(self, count: int) -> bytes:
        """Return up to ``count`` bytes without moving; fewer at the end of the file."""
        piece = self._read(count)
        self._position = self._file.seek(self._position - len(piece))
        return piece

    def take(self, count: int) -> bytes:
        """Return exactly ``count`` bytes; raises PictureUnreadable where the file ends or the total is used up."""
        piece = self._read(count)
        if len(piece) < count:
            raise PictureUnreadable(
                f"The picture's header is truncated: the file ends after {self.size} bytes.",
                "Copy or export the picture again.",
                bytes=self.size,
            )
        return piece

    def skip(self, count: int) -> None:
        """Move on by ``count`` bytes, at most to the end of the file."""
        self._position = self._file.seek(min(self._position + count, self.size))

    def find(self, pair: re.Pattern[bytes]) -> None:
        """Move to where the next two bytes match ``pair``, or to the end of the file."""
        while self.size - self._position >= 2:
            piece = self._file.read(MAX_PIECE)
            found = pair.search(piece)
            if found is not None:
                self._position = self._file.seek(self._position + found.start())
                return
            # The last byte may be the first of a pair.
            self._position = self._file.seek(self._position + max(len(piece) - 1, 1))
        self._position = self._file.seek(self.size)

    def _read(self, count: int) -> bytes:
        assert 0 <= count <= MAX_PIECE, count
        if count > self._left:
            raise PictureUnreadable(
                f"The picture's header is longer than {MAX_TOTAL // 1024} KiB.", "Export the picture again."
            )
        piece = self._file.read(count)
        self._left -= len(piece)
        self._position += len(piece)
        return piece
