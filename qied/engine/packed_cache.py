"""Quantised blocks kept on disk for the next start: found by what they were made of, written by one at a time."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from torch import Tensor

from qied.engine.packed_file import Contents, PackedReader, PackedWriter, UnusablePackedFile, drafts
from qied.engine.sources import SafetensorsSource
from qied.file_lock import try_lock
from qied.planning.block_layout import BlockLayout

PACKING = 2
"""Version of how blocks are packed and quantised: files of another one are of no use."""
_SUFFIX = ".packed"
_LENGTH_BYTES = 8

Fill = Callable[[int, Tensor], None]
"""Puts block number n into a buffer."""


@dataclass(frozen=True)
class PackedCache:
    """A folder of packed files of at most ``limit_bytes``; ``free_reserve_bytes`` of its disk are left alone."""

    folder: Path
    limit_bytes: int
    free_reserve_bytes: int = 0

    def fill(self, buffers: Sequence[Tensor], contents: Contents, pack: Fill, on_kept: Callable[[int], None]) -> None:
        """Fill all ``buffers`` with their blocks: from a kept file, else by ``pack``, and keep them then.

        ``on_kept`` is told the number of each block that came from the file. That blocks cannot be kept, for a full
        disk or any other reason, is a warning in the log; they are in the buffers all the same.
        """
        path = self.folder / f"{_name(contents)}{_SUFFIX}"
        if self._read(path, contents, buffers, on_kept):
            return
        with self._writing(path, contents) as writer:
            for number, buffer in enumerate(buffers):
                pack(number, buffer)
                writer.add(buffer)

    def _read(self, path: Path, contents: Contents, buffers: Sequence[Tensor], on_kept: Callable[[int], None]) -> bool:
        try:
            reader = PackedReader(path, contents)
        except UnusablePackedFile:
            return False
        try:
            for number, buffer in enumerate(buffers):
                reader.read(number, buffer)
                on_kept(number)
            with suppress(OSError):
                os.utime(path)  # the least recently used file makes way first
        except OSError as error:
            _warn("packed blocks cannot be read, so they are made anew", path, error)
            return False
        finally:
            reader.close()
        return True

    @contextmanager
    def _writing(self, path: Path, contents: Contents) -> Iterator[_Keeping]:
        """A writer that never fails: what goes wrong ends the keeping, and nothing else."""
        keeping = _Keeping(None, path)
        descriptor: int | None = None
        try:
            try:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
                # Whoever comes second goes without: both would write the same.
                if try_lock(descriptor) and self._has_room(contents.nbytes, path):
                    keeping = _Keeping(PackedWriter(path, contents), path)
            except OSError as error:
                _warn("packed blocks cannot be kept for the next start", path, error)
            yield keeping
            keeping.finish()
        finally:
            keeping.abandon()
            if descriptor is not None:
                os.close(descriptor)

    def _has_room(self, nbytes: int, path: Path) -> bool:
        """Make room within the limit and on the disk. Only the holder of the lock comes here."""
        for draft in drafts(self.folder):
            draft.unlink()  # of a process that was killed
        if nbytes > self.limit_bytes:
            self._say_too_little("the limit is too low for them", nbytes, self.limit_bytes)
            return False
        kept = sorted(self.folder.glob(f"*{_SUFFIX}"), key=lambda file: file.stat().st_mtime_ns)
        sizes = {file: file.stat().st_size for file in kept if file != path}
        free = shutil.disk_usage(self.folder).free - self.free_reserve_bytes
        if free + sum(sizes.values()) < nbytes:
            self._say_too_little("the disk has too little room", nbytes, max(0, free))
            return False
        while sizes and (sum(sizes.values()) + nbytes > self.limit_bytes or free < nbytes):
            oldest = next(iter(sizes))
            oldest.unlink()
            free += sizes.pop(oldest)
        return True

    def _say_too_little(self, what: str, needed: int, there: int) -> None:
        structlog.get_logger(part="packed cache").warning(
            f"packed blocks cannot be kept for the next start: {what}",
            folder=str(self.folder),
            needed_bytes=needed,
            available_bytes=there,
            remedy="Free that much, or change storage.packed_bytes; 0 keeps none.",
        )


class _Keeping:
    """Hands blocks to a writer for as long as that works."""

    def __init__(self, writer: PackedWriter | None, path: Path) -> None:
        self._writer = writer
        self._path = path

    def add(self, buffer: Tensor) -> None:
        """Write one more block, if there is still a writer."""
        self._attempt(lambda writer: writer.add(buffer))

    def finish(self) -> None:
        """Give the file its name."""
        self._attempt(lambda writer: writer.finish())
        self._writer = None

    def abandon(self) -> None:
        """Remove what is not finished."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None

    def _attempt(self, work: Callable[[PackedWriter], None]) -> None:
        if self._writer is None:
            return
        try:
            work(self._writer)
        except OSError as error:
            self.abandon()
            _warn("packed blocks cannot be kept for the next start", self._path, error)


def contents_of(source: SafetensorsSource, layout: BlockLayout, blocks: int) -> Contents:
    """What the packed blocks of a source are: its files as they are now, their headers, and the layout."""
    files = [
        {"path": str(path.resolve()), "bytes": size, "changed_ns": changed, "inode": inode, "header": _digest(path)}
        for path, (size, changed, inode) in source.files.items()
    ]
    shape = layout.shape
    entries = [[entry.name, entry.dtype, list(entry.shape), entry.offset] for entry in layout.entries]
    made_of: dict[str, Any] = {
        "packing": PACKING,
        "files": files,
        "shape": [shape.inner_dim, shape.mlp_dim, shape.head_dim],
        "scaling": layout.scaling,
        "entries": entries,
    }
    return Contents(made_of, blocks, layout.nbytes)


def _digest(path: Path) -> str:
    """SHA-256 of a file's header: the names, types and places of its tensors."""
    with path.open("rb") as file:
        length = file.read(_LENGTH_BYTES)
        return hashlib.sha256(length + file.read(int.from_bytes(length, "little"))).hexdigest()


def _name(contents: Contents) -> str:
    return hashlib.sha256(contents.header()).hexdigest()[:32]


def _warn(event: str, path: Path, error: OSError) -> None:
    structlog.get_logger(part="packed cache").warning(
        event,
        file=str(path),
        reason=error.strerror or str(error),
        remedy="Look at that disk, or set storage.packed_bytes to 0.",
    )
