"""Stored blobs, bytes promised to uploads, and bytes still available: integers, no files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from threading import RLock

from qied_client.errors import DiskFull, UnknownBlob


@dataclass(frozen=True)
class Usage:
    """Bytes of each kind. ``used`` never exceeds ``limit``; ``reserved`` counts the announced sizes of open uploads."""

    stored: int
    reserved: int
    suspended: int
    limit: int
    blobs: int
    uploads: int

    @property
    def used(self) -> int:
        """Bytes that are not available to others."""
        return self.stored + self.reserved + self.suspended


@dataclass(frozen=True)
class Kept:
    """Bytes on disk, and when they were last used (seconds since the epoch)."""

    size: int
    used_at: float


@dataclass
class _Reservation:
    size: int
    written: int


class BlobLedger:
    """Counts bytes. Methods are safe in any thread; ``changing`` makes a step on disk and its entry here one step.

    A blob goes by its hash, an upload by the name of its partial file. An upload is open (its whole size is reserved)
    or suspended (the bytes on disk count).
    """

    def __init__(self, limit_bytes: int, free_reserve_bytes: int, free_bytes: Callable[[], int]) -> None:
        """``free_bytes`` reports what the file system has left; ``free_reserve_bytes`` of it stay untouched."""
        self._limit = limit_bytes
        self._free_reserve = free_reserve_bytes
        self._free_bytes = free_bytes
        self._stored: dict[str, Kept] = {}
        self._open: dict[str, _Reservation] = {}
        self._suspended: dict[str, Kept] = {}
        self._lock = RLock()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keep other threads out while a file and its entry change together; for short steps only."""
        with self._lock:
            yield

    def usage(self) -> Usage:
        """Bytes taken now."""
        with self._lock:
            return Usage(
                stored=sum(kept.size for kept in self._stored.values()),
                reserved=sum(upload.size for upload in self._open.values()),
                suspended=sum(kept.size for kept in self._suspended.values()),
                limit=self._limit,
                blobs=len(self._stored),
                uploads=len(self._open),
            )

    def size(self, digest: str) -> int | None:
        """Bytes of a stored blob."""
        kept = self._stored.get(digest)
        return None if kept is None else kept.size

    def touch(self, digest: str, now: float) -> int:
        """Note a use of a stored blob; returns its size. Raises UnknownBlob."""
        with self._lock:
            if (kept := self._stored.get(digest)) is None:
                raise unknown_blob(digest)
            self._stored[digest] = Kept(kept.size, now)
            return kept.size

    def store(self, digest: str, kept: Kept) -> None:
        """Enter a blob found on disk."""
        with self._lock:
            self._stored[digest] = kept

    def forget(self, digest: str) -> None:
        """Strike out a blob that is off the disk."""
        with self._lock:
            self._stored.pop(digest, None)

    def reserve(self, names: Iterable[str], size: int) -> str:
        """Open an upload of ``size`` bytes under the first of ``names`` that no open upload has.

        Returns that name; raises DiskFull with numbers.
        """
        with self._lock:
            name = next(name for name in names if name not in self._open)
            kept = self._suspended.get(name, Kept(0, 0.0))
            self._admit(size, kept.size)
            self._suspended.pop(name, None)
            self._open[name] = _Reservation(size, kept.size)
            return name

    def progress(self, name: str, written: int) -> None:
        """Note that ``written`` of an open upload's bytes are on disk."""
        with self._lock:
            self._open[name].written = written

    def promote(self, name: str, digest: str, now: float) -> None:
        """Turn a complete upload into a stored blob."""
        with self._lock:
            self._stored[digest] = Kept(self._open.pop(name).size, now)

    def suspend(self, name: str, kept: Kept) -> None:
        """End an upload, or enter one found on disk, and keep its bytes for later."""
        with self._lock:
            self._open.pop(name, None)
            self._suspended[name] = kept

    def drop(self, name: str) -> None:
        """Strike out an upload whose bytes are off the disk."""
        with self._lock:
            self._open.pop(name, None)
            self._suspended.pop(name, None)

    def idle(self, pinned: Set[str], used_before: float) -> tuple[dict[str, Kept], dict[str, Kept]]:
        """Unpinned blobs and suspended uploads last used before that moment, oldest first."""
        with self._lock:
            blobs = {digest: kept for digest, kept in self._stored.items() if digest not in pinned}
            return _oldest_first(blobs, used_before), _oldest_first(self._suspended, used_before)

    def is_idle(self, name: str, kept: Kept) -> bool:
        """Whether the blob or suspended upload is still as ``idle`` gave it: not used since."""
        return self._stored.get(name, self._suspended.get(name)) == kept

    def shortfall(self, size: int) -> int:
        """How many bytes must go before an upload of ``size`` is admitted; 0 where it is."""
        with self._lock:
            return max(0, size - self._room(), size - self._free_room())

    def _admit(self, size: int, on_disk: int) -> None:
        room = self._room() + on_disk
        if size > room:
            raise DiskFull(
                f"The daemon keeps at most {self._limit} bytes of pictures, with {max(room, 0)} left for this one "
                f"of {size}.",
                "Release finished jobs and close sessions, or raise the limit in the daemon's configuration.",
                size=size,
                available=max(room, 0),
                limit=self._limit,
            )
        free = self._free_room()
        if size - on_disk > free:
            raise DiskFull(
                f"The daemon's disk has {max(free, 0)} bytes left above the {self._free_reserve} that stay free; "
                f"{size - on_disk} are needed.",
                "Free space on the daemon's disk, then try again.",
                size=size - on_disk,
                available=max(free, 0),
                reserve=self._free_reserve,
            )

    def _room(self) -> int:
        return self._limit - self.usage().used

    def _free_room(self) -> int:
        outstanding = sum(upload.size - upload.written for upload in self._open.values())
        return self._free_bytes() - self._free_reserve - outstanding


def unknown_blob(digest: str) -> UnknownBlob:
    """The error for a hash that is not stored."""
    return UnknownBlob(f"The daemon has no blob {digest}.", "Upload it first.", hash=digest)


def enough(candidates: dict[str, Kept], needed: int) -> int | None:
    """How many of ``candidates``, in their order, make up ``needed`` bytes; None where all of them do not."""
    if needed <= 0:
        return 0
    sums = accumulate(kept.size for kept in candidates.values())
    return next((count for count, total in enumerate(sums, start=1) if total >= needed), None)


def _oldest_first(entries: dict[str, Kept], used_before: float) -> dict[str, Kept]:
    idle = ((name, kept) for name, kept in entries.items() if kept.used_at < used_before)
    return dict(sorted(idle, key=lambda entry: entry[1].used_at))
