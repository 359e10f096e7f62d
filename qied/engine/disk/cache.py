"""A folder of files kept for reuse: found by what they were made from, within limits, with one writer at a time."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
import torch
from torch import Tensor

from qied.engine.disk.file import Contents, PackedReader, PackedWriter, UnusablePackedFile, drafts
from qied.engine.disk.in_use import FilesInUse, is_in_use
from qied.engine.weights.sources import FileSource
from qied.file_lock import try_lock

_SUFFIX = ".packed"
_LOOK_AGAIN_S = 0.1
_GIB = 1 << 30

Fill = Callable[[int, Tensor], None]
"""Puts block number n into a buffer."""


@dataclass(frozen=True)
class Kind:
    """What a folder keeps, in words for the log, and the setting that limits it.

    Of what is ``lasting`` a process needs all files at once, and again at its next start: none that somebody has used
    makes way for another until that process has ended.
    """

    name: str
    setting: str
    lasting: bool = False


@dataclass(frozen=True)
class DiskCache:
    """A folder of packed files of at most ``limit_bytes``; ``free_reserve_bytes`` of its disk are left alone.

    No disk failure is an error here: each is logged once, and everything works without the file.
    """

    kind: Kind
    folder: Path
    limit_bytes: int
    free_reserve_bytes: int = 0
    in_use: FilesInUse = field(default_factory=FilesInUse, repr=False, compare=False)
    _told: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def fill(self, buffers: Sequence[Tensor], contents: Contents, make: Fill, on_kept: Callable[[int], None]) -> None:
        """Fill all ``buffers`` with their blocks: from a kept file, else by ``make``, and keep them then.

        ``on_kept`` is called with the number of each block that came from the file.
        """
        if self.read(contents, buffers, on_kept):
            return
        with self.writing(contents) as keeping:
            for number, buffer in enumerate(buffers):
                make(number, buffer)
                keeping.add(buffer)

    def read(self, contents: Contents, buffers: Sequence[Tensor], on_kept: Callable[[int], None]) -> bool:
        """Fill all ``buffers`` from a kept file; False, with anything in them, where there is none that is whole."""
        path = self.ask_for(contents)
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
        except (OSError, UnusablePackedFile) as error:
            self.warn("cannot be read and will be rebuilt", path, error)
            return False
        finally:
            reader.close()
        self._hold(path)
        return True

    def mapped(self, contents: Contents, make: Fill, on_kept: Callable[[], None]) -> list[Tensor] | None:
        """All blocks as views of a kept file, uint8 [block_bytes]; None where nothing can be kept.

        A file that is not there is made by ``make`` first; ``on_kept`` is called for one that was there. Where another
        process is making files, this waits for it, and takes what it made.
        """
        if (found := self._mapped(contents)) is not None:
            on_kept()
            return found
        with self.writing(contents, patient=True) as keeping:
            if (found := self._mapped(contents)) is not None:
                keeping.abandon()
                on_kept()
                return found
            buffer = torch.zeros(contents.block_bytes, dtype=torch.uint8)
            for number in range(contents.blocks):
                if not keeping.at_work:
                    return None
                make(number, buffer)
                keeping.add(buffer)
            del buffer
        return self._mapped(contents)

    def _mapped(self, contents: Contents) -> list[Tensor] | None:
        """The blocks of a kept file, once all of it was compared with its checksums."""
        path = self.ask_for(contents)
        try:
            reader = PackedReader(path, contents)
        except UnusablePackedFile:
            return None
        try:
            buffer = torch.empty(contents.block_bytes, dtype=torch.uint8)
            for number in range(contents.blocks):
                reader.read(number, buffer)
            with suppress(OSError):
                os.utime(path)
            self._hold(path)
            return reader.mapped()
        except (OSError, UnusablePackedFile) as error:
            self.warn("cannot be read and will be rebuilt", path, error)
            return None
        finally:
            reader.close()

    @contextmanager
    def writing(self, contents: Contents, *, patient: bool = False) -> Iterator[KeptBlocksWriter]:
        """Take in the blocks of a file; what goes wrong ends the keeping, and nothing else.

        Of two processes only one writes at a time; the other waits for it if it is ``patient``, or goes without.
        """
        path = self._path(contents)
        keeping = KeptBlocksWriter(self, path, None)
        descriptor: int | None = None
        try:
            try:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
                # Whoever comes second goes without: both would write the same.
                if _locked(descriptor, patient) and self._has_room(contents.nbytes, path):
                    keeping = KeptBlocksWriter(self, path, PackedWriter(path, contents))
            except OSError as error:
                self.warn("cannot be kept for the next start", path, error)
            yield keeping
            if keeping.finish():
                self._hold(path)
        finally:
            keeping.abandon()
            if descriptor is not None:
                os.close(descriptor)

    def warn(self, what: str, path: Path, error: OSError | UnusablePackedFile) -> None:
        """Log what went wrong with a file."""
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        remedy = f"Look at that disk, or set {self.kind.setting} to 0."
        self._tell(f"{self.kind.name} {what}", file=str(path), reason=reason, remedy=remedy)

    def _path(self, contents: Contents) -> Path:
        return self.folder / f"{hashlib.sha256(contents.header()).hexdigest()[:32]}{_SUFFIX}"

    def _has_room(self, nbytes: int, path: Path) -> bool:
        """Make room within the limit and on the disk. Only the holder of the lock comes here."""
        for draft in drafts(self.folder):
            draft.unlink()  # of a process that was killed
        kept = sorted(self.folder.glob(f"*{_SUFFIX}"), key=lambda file: file.stat().st_mtime_ns)
        used = [file for file in kept if file != path and self.kind.lasting and is_in_use(file)]
        limit = self.limit_bytes - sum(file.stat().st_size for file in used)
        if nbytes > limit:
            self._too_low(nbytes, used)
            return False
        sizes = {file: file.stat().st_size for file in kept if file != path and file not in used}
        free = shutil.disk_usage(self.folder).free - self.free_reserve_bytes
        if free + sum(sizes.values()) < nbytes:
            self._say_too_little("the disk has too little space", nbytes, max(0, free))
            return False
        while sizes and (sum(sizes.values()) + nbytes > limit or free < nbytes):
            oldest = next(iter(sizes))
            oldest.unlink()
            free += sizes.pop(oldest)
        return True

    def ask_for(self, contents: Contents) -> Path:
        """Where a file lies, or would; that it is needed is noted for :meth:`say_what_is_needed`."""
        path = self._path(contents)
        self.in_use.wanted[path] = contents.nbytes
        return path

    def _hold(self, path: Path) -> None:
        if self.kind.lasting:
            self.in_use.hold(path)

    def _too_low(self, nbytes: int, used: Sequence[Path]) -> None:
        """The limit has no room: told at once, or by :meth:`say_what_is_needed` where more may be asked for yet."""
        if self.kind.lasting:
            self.in_use.refused = True
            self.in_use.others |= {file: file.stat().st_size for file in used}
        else:
            self._say_too_little("the limit is too low for them", nbytes, self.limit_bytes)

    def say_what_is_needed(self) -> None:
        """Once all files of a start were asked for, tell how high the limit has to be; nothing where it is enough."""
        if self.in_use.refused:
            needed = self.in_use.needed_bytes
            self._tell(
                f"{self.kind.name} cannot all be kept for the next start: the limit is too low for them",
                folder=str(self.folder),
                needed_bytes=needed,
                available_bytes=self.limit_bytes,
                remedy=f"Set {self.kind.setting} to {-(-needed // _GIB)}GiB or more; until then, what is not kept is "
                "made again at each start. 0 keeps none.",
            )

    def _say_too_little(self, what: str, needed: int, there: int) -> None:
        self._tell(
            f"{self.kind.name} cannot be kept for the next start: {what}",
            folder=str(self.folder),
            needed_bytes=needed,
            available_bytes=there,
            remedy=f"Free that much, or change {self.kind.setting}; 0 keeps none.",
        )

    def _tell(self, event: str, **details: str | int) -> None:
        if event not in self._told:
            self._told.add(event)
            structlog.get_logger(part="disk cache").warning(event, **details)


@dataclass(frozen=True)
class DiskCaches:
    """What an engine keeps on disk for its next start: blocks and text encoders in 8 bits, and modulation tables."""

    packed: DiskCache | None = None
    modulation: DiskCache | None = None


NO_CACHES = DiskCaches()


class KeptBlocksWriter:
    """Hands blocks to a writer for as long as that works."""

    def __init__(self, cache: DiskCache, path: Path, writer: PackedWriter | None) -> None:
        self._cache = cache
        self._path = path
        self._writer = writer

    @property
    def at_work(self) -> bool:
        """Whether blocks are still written."""
        return self._writer is not None

    def add(self, buffer: Tensor) -> None:
        """Write one more block, if there is still a writer."""
        self._attempt(lambda writer: writer.add(buffer))

    def finish(self) -> bool:
        """Give the file its name; whether it has it."""
        self._attempt(lambda writer: writer.finish())
        done, self._writer = self._writer is not None, None
        return done

    def abandon(self) -> None:
        """Remove unfinished files."""
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
            self._cache.warn("cannot be kept for the next start", self._path, error)


def _locked(descriptor: int, patient: bool) -> bool:
    while not (locked := try_lock(descriptor)) and patient:
        time.sleep(_LOOK_AGAIN_S)
    return locked


def identity_of(source: FileSource) -> list[dict[str, Any]]:
    """What tells the files of a source from all others and from themselves after any change; raises OSError."""
    return [
        {
            "path": str(path.resolve()),
            "bytes": size,
            "changed_ns": changed,
            "inode": inode,
            "header": _digest(path, source.header_bytes(path)),
        }
        for path, (size, changed, inode) in source.files.items()
    ]


def _digest(path: Path, nbytes: int) -> str:
    """SHA-256 of a file's header of so many bytes: the names, types and places of its tensors."""
    with path.open("rb") as file:
        return hashlib.sha256(file.read(nbytes)).hexdigest()
