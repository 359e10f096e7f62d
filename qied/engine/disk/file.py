"""One file of packed blocks: a header that says what they were made from, then one aligned buffer after the other."""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from qied.disk_sync import sync_file, sync_folder
from qied.engine.weights.mapped_file import map_file, map_view

MAGIC = b"qied packed blocks 2\n"
PAGE = 4096
"""Blocks start at multiples of this many bytes, as direct reads and maps want them."""
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 1 << 20
_SUM_BYTES = 4
_PIECE = 1 << 22
"""Bytes with a checksum of their own: few enough that they are summed before they have left the processor's cache."""
_AT_ONCE = 16 * _PIECE
"""Bytes of the memory that blocks pass through on their way to a device."""
_THREADS = 4
"""One sums some 4 GB in a second, which is less than what memory, or two good disks, give."""

_ONE_PLACE = Lock()
"""Where the system cannot read at a place (Windows), an open file has one place for all threads."""


class UnusablePackedFile(Exception):
    """The file is not whole, or was made of something else."""


@dataclass(frozen=True)
class Contents:
    """What a file holds: ``blocks`` buffers of ``block_bytes``, and all that decided about what is in them.

    Behind each block are CRC-32 of its pieces, which tell what a loss of power, or the disk, left of what was written.
    With ``synced`` a file gets its name when it is on the disk; without, it does not wait for that.
    """

    made_of: dict[str, Any]
    blocks: int
    block_bytes: int
    synced: bool = True

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
        return len(self.header()) + block * _in_pages(self.block_bytes + _SUM_BYTES * len(_pieces(self.block_bytes)))


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
            raise UnusablePackedFile(f"{path} was made from other files, by another version, or is incomplete")
        self._staging: Tensor | None = None
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="packed file")

    def read(self, block: int, buffer: Tensor) -> None:
        """Put a block into ``buffer`` (uint8 [block_bytes], on any device).

        Raises OSError where the disk fails, and UnusablePackedFile for data that differs from what was written.
        """
        place, sums = self._contents.place(block), b""
        for begin in range(0, len(buffer), _AT_ONCE):
            part = buffer[begin : begin + _AT_ONCE]
            target = part if part.device.type == "cpu" else self._stage(len(part))
            sums += self._read_summed(target, place + begin)
            if target is not part:
                part.copy_(target)
        if _read(self._descriptor, len(sums), place + len(buffer)) != sums:
            raise UnusablePackedFile("the data on the disk differs from what was written")

    def mapped(self) -> list[Tensor]:
        """All blocks as views of the file, uint8 [block_bytes] in host memory; raises OSError."""
        whole, contents = map_file(self._descriptor), self._contents
        size = contents.block_bytes
        return [map_view(whole, contents.place(block), size, torch.uint8) for block in range(contents.blocks)]

    def close(self) -> None:
        """Close the file; to be called once."""
        self._threads.shutdown()
        os.close(self._descriptor)

    def _read_summed(self, target: Tensor, place: int) -> bytes:
        """Read bytes from ``place`` on; returns the sums of their pieces."""
        view = target.numpy().data

        def read(piece: slice) -> bytes:
            _read_into(self._descriptor, view[piece], place + piece.start)
            return _sum(view[piece])

        return b"".join(self._threads.map(read, _pieces(len(view))))

    def _stage(self, nbytes: int) -> Tensor:
        if self._staging is None:
            self._staging = torch.empty(_AT_ONCE, dtype=torch.uint8)
        return self._staging[:nbytes]


class PackedWriter:
    """Writes blocks, in order, to a file that gets its name when all of them are on the disk, or never."""

    def __init__(self, path: Path, contents: Contents) -> None:
        """Make a file next to ``path``; raises OSError, at once where the disk has too little room for all of it."""
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
        sums = b""
        for begin in range(0, len(buffer), _AT_ONCE):
            part = buffer[begin : begin + _AT_ONCE].cpu().numpy().data
            _write(self._descriptor, part)
            sums += b"".join(_sum(part[piece]) for piece in _pieces(len(part)))
        _write(self._descriptor, sums)
        self._next += 1

    def finish(self) -> None:
        """Give the file its name, once it is on the disk where that is wanted; raises OSError."""
        assert self._next == self._contents.blocks and self._descriptor is not None, "every block is there"
        os.ftruncate(self._descriptor, self._contents.nbytes)
        if self._contents.synced:
            sync_file(self._descriptor)
        self._close()
        self._draft.replace(self._path)
        if self._contents.synced:
            sync_folder(self._path.parent)

    def abandon(self) -> None:
        """Remove the partial file."""
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
    """Unfinished files."""
    return folder.glob("*.writing")


def _pieces(nbytes: int) -> list[slice]:
    return [slice(begin, min(begin + _PIECE, nbytes)) for begin in range(0, nbytes, _PIECE)]


def _sum(data: memoryview) -> bytes:
    return zlib.crc32(data).to_bytes(_SUM_BYTES, "little")


def _in_pages(nbytes: int) -> int:
    return -(-nbytes // PAGE) * PAGE


def _read(descriptor: int, nbytes: int, place: int) -> bytes:
    if nbytes > _MAX_HEADER_BYTES:
        return b""
    os.lseek(descriptor, place, os.SEEK_SET)
    return os.read(descriptor, nbytes)


def _read_into(descriptor: int, view: memoryview, place: int) -> None:
    """Fill ``view``; several threads may read at the same time."""
    done = 0
    while done < len(view):
        count = _read_some(descriptor, view[done:], place + done)
        if not count:
            raise OSError(errno.EIO, "the file of packed blocks ended early")
        done += count


def _read_some(descriptor: int, view: memoryview, place: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [view], place)
    with _ONE_PLACE:
        os.lseek(descriptor, place, os.SEEK_SET)
        data = os.read(descriptor, len(view))
    view[: len(data)] = data
    return len(data)


def _write(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
