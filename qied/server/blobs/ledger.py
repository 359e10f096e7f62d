"""Stored blobs, bytes promised to uploads, and bytes still available: integers, no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, count
from threading import RLock

from qied_client.errors import DiskFull, QuotaExceeded, UnknownBlob


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


@dataclass(frozen=True, slots=True)
class Kept:
    """Bytes on disk, and when they were last used (seconds since the epoch)."""

    size: int
    used_at: float


@dataclass
class _Reservation:
    size: int
    written: int


@dataclass(frozen=True)
class Claim:
    """Who asks for room: ``owner`` names the uploader, as part of the file's name.

    ``own_bytes`` is how much this owner may have under way, open and suspended; without it the upload is a result,
    which may take what uploads have to leave.
    """

    owner: str
    own_bytes: int | None = None

    @property
    def result(self) -> bool:
        """Whether a worker brings it."""
        return self.own_bytes is None


LEAST_BYTES = 64 * 1024
"""What a small blob counts as in its owner's share: files cost more than their bytes."""


def counted(size: int) -> int:
    """Bytes of a blob as they count in its owner's share."""
    return max(size, LEAST_BYTES)


class BlobLedger:
    """Counts bytes. Methods are safe in any thread; ``changing`` makes a step on disk and its entry here one step.

    A blob goes by its hash, an upload by the name of its partial file. An upload is open (its whole size is reserved)
    or suspended (the bytes on disk count).
    """

    def __init__(
        self,
        limit_bytes: int,
        free_reserve_bytes: int,
        free_bytes: Callable[[], int],
        left_to_results: Callable[[], int] = lambda: 0,
    ) -> None:
        """``free_bytes`` reports what the file system has left; ``free_reserve_bytes`` of it stay untouched.

        Uploads leave ``left_to_results`` of the limit to results, which may also take half of the reserve.
        """
        self._limit = limit_bytes
        self._free_reserve = free_reserve_bytes
        self._free_bytes = free_bytes
        self._left_to_results = left_to_results
        self._stored: dict[str, Kept] = {}
        self._open: dict[str, _Reservation] = {}
        self._suspended: dict[str, Kept] = {}
        self._stored_bytes = self._reserved_bytes = self._suspended_bytes = self._written_bytes = 0
        self._by_owner: Counter[str] = Counter()
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
                stored=self._stored_bytes,
                reserved=self._reserved_bytes,
                suspended=self._suspended_bytes,
                limit=self._limit,
                blobs=len(self._stored),
                uploads=len(self._open),
            )

    def under_way(self, owner: str) -> int:
        """Bytes of an owner's open and suspended uploads, as they count in the owner's share."""
        with self._lock:
            return self._by_owner[owner]

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
            self.forget(digest)
            self._stored[digest] = kept
            self._stored_bytes += kept.size

    def forget(self, digest: str) -> None:
        """Strike out a blob that is off the disk."""
        with self._lock:
            if (kept := self._stored.pop(digest, None)) is not None:
                self._stored_bytes -= kept.size

    def reserve(self, names: Iterable[str], size: int, claim: Claim) -> str:
        """Open an upload of ``size`` bytes under the first of ``names`` that no open upload has.

        Returns that name; raises DiskFull and QuotaExceeded with numbers.
        """
        with self._lock:
            name = next(name for name in names if name not in self._open)
            kept = self._suspended.get(name)
            on_disk = 0 if kept is None else kept.size
            if claim.own_bytes is not None:
                others = self._by_owner[claim.owner] - (0 if kept is None else counted(on_disk))
                if others + counted(size) > claim.own_bytes:
                    raise over_share(counted(size), max(0, claim.own_bytes - others))
            self._admit(size, on_disk, claim.result)
            self._drop_suspended(name)
            self._open[name] = _Reservation(size, on_disk)
            self._reserved_bytes += size
            self._written_bytes += on_disk
            self._by_owner[owner_of(name)] += counted(size)
            return name

    def progress(self, name: str, written: int) -> None:
        """Note that ``written`` of an open upload's bytes are on disk."""
        with self._lock:
            upload = self._open[name]
            self._written_bytes += written - upload.written
            upload.written = written

    def promote(self, name: str, digest: str, now: float) -> None:
        """Turn a complete upload into a stored blob."""
        with self._lock:
            self.store(digest, Kept(self._open[name].size, now))
            self._drop_open(name)

    def suspend(self, name: str, kept: Kept) -> None:
        """End an upload, or enter one found on disk, and keep its bytes for later."""
        with self._lock:
            self.drop(name)
            self._suspended[name] = kept
            self._suspended_bytes += kept.size
            self._by_owner[owner_of(name)] += counted(kept.size)

    def drop(self, name: str) -> None:
        """Strike out an upload whose bytes are off the disk."""
        with self._lock:
            self._drop_open(name)
            self._drop_suspended(name)

    def _drop_open(self, name: str) -> None:
        if (upload := self._open.pop(name, None)) is not None:
            self._reserved_bytes -= upload.size
            self._written_bytes -= upload.written
            self._uncount(owner_of(name), upload.size)

    def _drop_suspended(self, name: str) -> None:
        if (kept := self._suspended.pop(name, None)) is not None:
            self._suspended_bytes -= kept.size
            self._uncount(owner_of(name), kept.size)

    def _uncount(self, owner: str, size: int) -> None:
        self._by_owner[owner] -= counted(size)
        if not self._by_owner[owner]:
            del self._by_owner[owner]

    def idle(self, pinned: Set[str], used_before: float) -> tuple[dict[str, Kept], dict[str, Kept]]:
        """Unpinned blobs and suspended uploads last used before that moment, oldest first."""
        with self._lock:
            blobs = {digest: kept for digest, kept in self._stored.items() if digest not in pinned}
            return _oldest_first(blobs, used_before), _oldest_first(self._suspended, used_before)

    def is_idle(self, name: str, kept: Kept) -> bool:
        """Whether the blob or suspended upload is still as ``idle`` gave it: not used since."""
        return self._stored.get(name, self._suspended.get(name)) == kept

    def shortfall(self, size: int, *, result: bool = False) -> int:
        """How many bytes must go before an upload of ``size`` is admitted; 0 where it is."""
        with self._lock:
            return max(0, size - self._room(result), size - self._free_room(result))

    def _admit(self, size: int, on_disk: int, result: bool) -> None:
        room = self._room(result) + on_disk
        if size > room:
            raise DiskFull(
                f"The daemon keeps at most {self._limit} bytes of pictures, with {max(room, 0)} left for this one "
                f"of {size}.",
                "Release finished jobs and close sessions, or raise the limit in the daemon's configuration.",
                size=size,
                available=max(room, 0),
                limit=self._limit,
            )
        free = self._free_room(result)
        if size - on_disk > free:
            raise DiskFull(
                f"The daemon's disk has {max(free, 0)} bytes left above the {self._free_reserve} that stay free; "
                f"{size - on_disk} are needed.",
                "Free space on the daemon's disk, then try again.",
                size=size - on_disk,
                available=max(free, 0),
                reserve=self._free_reserve,
            )

    def _room(self, result: bool) -> int:
        return self._limit - self.usage().used - (0 if result else self._left_to_results())

    def _free_room(self, result: bool) -> int:
        reserve = self._free_reserve // 2 if result else self._free_reserve
        return self._free_bytes() - reserve - (self._reserved_bytes - self._written_bytes)


def partial_names(digest: str, owner: str) -> Iterator[str]:
    """Names for uploads of one blob by one owner that are open at the same time.

    The number comes before the owner, so no owner's name can look like another's with a number.
    """
    return (f"{digest}-{number}-{owner}" for number in count(1))


def owner_of(name: str) -> str:
    """The owner in the name of a partial file."""
    return name.split("-", 2)[2]


def over_share(size: int, left: int) -> QuotaExceeded:
    """The error for more bytes than one user's pictures may take."""
    return QuotaExceeded(
        f"One user's pictures may take only a part of the daemon's storage (storage.user_share): {left} bytes are left "
        f"to you, and {size} are needed.",
        "Release finished jobs and close sessions, wait for your other uploads, or raise the setting.",
        setting="storage.user_share",
        needed=size,
        available=left,
        passes=False,
    )


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
