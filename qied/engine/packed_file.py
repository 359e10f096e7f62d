"""One file of packed blocks: a header that says what they were made of, then one aligned buffer after the other."""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qied.disk_sync import sync_file, sync_folder

MAGIC = b"qied packed blocks\n"
PAGE = 4096
"""Blocks start at multiples of this many bytes, as direct reads and maps want them."""
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 1 << 20
_SUM_BYTES = 4
_AT_ONCE = 1 << 26
"""Bytes of one call of the system, and of the memory that blocks pass through on their way to a device."""


class UnusablePackedFile(Exception):
    """The file is not whole, or was made of something else."""


@dataclass(frozen=True)
class Contents:
    """What a file holds: ``blocks`` buffers of ``block_bytes``, and all that decided about what is in them.

    ``checked`` puts a CRC-32 behind each block, which takes as long as it is to be read from memory. Others are trusted
    to be what was brought to the disk before the file had its name.
    """

    made_of: dict[str, Any]
    blocks: int
    block_bytes: int
    checked: bool = False

    def header(self) -> bytes:
        """The file's beginning, a whole number of pages."""
        text = json.dumps(
            {"made_of": self.made_of, "blocks": self.blocks, "block_bytes": self.block_bytes}, sort_keys=True
        ).encode()
        start = MAGIC + len(text).to_bytes(_LENGTH_BYTES, "little") + text
        return start.ljust(_in_pages(len(start)), b"\0")

    @property
    def nbytes(self) -> int:
        """Bytes of the whole file."""
        return self.place(self.blocks)

    def place(self, block: int) -> int:
        """Where a block starts."""
        return len(self.header()) + block * _in_pages(self.block_bytes + (_SUM_BYTES if self.checked else 0))


class PackedReader:
    """Reads blocks from a file that holds just these ``contents``."""

    def __init__(self, path: Path, contents: Contents) -> None:
        """Open it; raises UnusablePackedFile where it holds anything else, or is not whole."""
        self._contents = contents
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise UnusablePackedFile(f"{path}: {error.strerror}") from error
        header = contents.header()
        size = os.fstat(self._descriptor).st_size
        if size != contents.nbytes or _read(self._descriptor, len(header), 0) != header:
            os.close(self._descriptor)
            raise UnusablePackedFile(f"{path} was made of other files, in another version, or is not whole")
        self._staging: Tensor | None = None

    def read(self, block: int, buffer: Tensor) -> None:
        """Put a block into ``buffer`` (uint8 [block_bytes], on any device).

        Raises OSError where the disk fails, and UnusablePackedFile for what is not what was written.
        """
        place, found = self._contents.place(block), 0
        for begin in range(0, len(buffer), _AT_ONCE):
            part = buffer[begin : begin + _AT_ONCE]
            target = part if part.device.type == "cpu" else self._stage(len(part))
            _read_into(self._descriptor, target, place + begin)
            if self._contents.checked:
                found = zlib.crc32(target.numpy().data, found)
            if target is not part:
                part.copy_(target)
        if self._contents.checked and _read(self._descriptor, _SUM_BYTES, place + len(buffer)) != _sum(found):
            raise UnusablePackedFile("what is on the disk is not what was written there")

    def close(self) -> None:
        """Close the file; to be called once."""
        os.close(self._descriptor)

    def _stage(self, nbytes: int) -> Tensor:
        if self._staging is None:
            self._staging = torch.empty(_AT_ONCE, dtype=torch.uint8)
        return self._staging[:nbytes]


class PackedWriter:
    """Writes blocks, in order, to a file that gets its name when all of them are on the disk, or never."""

    def __init__(self, path: Path, contents: Contents) -> None:
        """Make a file beside ``path``; raises OSError, at once where the disk has too little room for all of it."""
        self._path = path
        self._draft = path.with_suffix(".writing")
        self._contents = contents
        self._next = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
        descriptor = os.open(self._draft, flags, 0o600)
        self._descriptor: int | None = descriptor
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, contents.nbytes)
            _write(descriptor, contents.header())
        except OSError:
            self.abandon()
            raise

    def add(self, buffer: Tensor) -> None:
        """Write the next block, uint8 [block_bytes] on any device; raises OSError."""
        assert self._descriptor is not None, "a writer that is still at work"
        os.lseek(self._descriptor, self._contents.place(self._next), os.SEEK_SET)
        found = 0
        for begin in range(0, len(buffer), _AT_ONCE):
            part = buffer[begin : begin + _AT_ONCE].cpu().numpy().data
            _write(self._descriptor, part)
            if self._contents.checked:
                found = zlib.crc32(part, found)
        if self._contents.checked:
            _write(self._descriptor, _sum(found))
        self._next += 1

    def finish(self) -> None:
        """Bring all blocks to the disk, and only then the name; raises OSError.

        Nobody waits for the disk where blocks are checked: what a loss of power leaves of them is found out.
        """
        assert self._next == self._contents.blocks and self._descriptor is not None, "every block is there"
        os.ftruncate(self._descriptor, self._contents.nbytes)
        if not self._contents.checked:
            sync_file(self._descriptor)
        self._close()
        self._draft.replace(self._path)
        if not self._contents.checked:
            sync_folder(self._path.parent)

    def abandon(self) -> None:
        """Remove what was written."""
        with suppress(OSError):
            self._close()
        with suppress(OSError):
            self._draft.unlink()

    def _close(self) -> None:
        """Once: the number may be another file's afterwards."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def drafts(folder: Path) -> Iterator[Path]:
    """Files that nobody has finished."""
    return folder.glob("*.writing")


def _sum(crc: int) -> bytes:
    return crc.to_bytes(_SUM_BYTES, "little")


def _in_pages(nbytes: int) -> int:
    return -(-nbytes // PAGE) * PAGE


def _read(descriptor: int, nbytes: int, place: int) -> bytes:
    if nbytes > _MAX_HEADER_BYTES:
        return b""
    os.lseek(descriptor, place, os.SEEK_SET)
    return os.read(descriptor, nbytes)


def _read_into(descriptor: int, target: Tensor, place: int) -> None:
    view = target.numpy().data
    done = 0
    while done < len(view):
        if hasattr(os, "preadv"):
            count = os.preadv(descriptor, [view[done:]], place + done)
        else:
            os.lseek(descriptor, place + done, os.SEEK_SET)
            data = os.read(descriptor, len(view) - done)
            view[done : done + len(data)] = data
            count = len(data)
        if not count:
            raise OSError(errno.EIO, "the file of packed blocks ended early")
        done += count


def _write(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
