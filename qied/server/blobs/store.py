"""The store of picture files: each under the SHA-256 of its bytes, within a limit that is kept by reservation."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from qied_client.errors import BlobDamaged, BlobTooLarge, DiskFull, InvalidRequest, UnknownBlob

from qied.disk_sync import sync_folder
from qied.server.access.private_files import private_folder
from qied.server.blobs.ledger import (
    BlobLedger,
    Claim,
    Kept,
    Usage,
    enough,
    owner_of,
    partial_names,
    unknown_blob,
)
from qied.server.blobs.upload import Upload

__all__ = ["BlobStore", "Removed", "Upload", "Usage"]

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_OWNER = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_PARTIAL = re.compile(r"[0-9a-f]{64}-[1-9][0-9]{0,9}-[A-Za-z0-9._-]{1,64}", re.ASCII)
_OLD_PARTIAL = re.compile(r"[0-9a-f]{64}\.[A-Za-z0-9._-]{1,80}", re.ASCII)
"""What versions up to 0.2 called a partial file: its owner is not certain, so nothing continues from it."""

_TRUSTED_S = 600.0
"""Seconds for which a blob that was read and found whole is not read again for a PUT of it."""
_REMEMBERED = 4096


@dataclass(frozen=True)
class Removed:
    """The result of a collection: hashes of removed blobs, how many abandoned uploads, and bytes of both."""

    blobs: tuple[str, ...]
    uploads: int
    bytes: int


class BlobStore:
    """Blobs in ``root/ab/<hash>``, uploads in ``root/partial/<hash>-<number>-<owner>``. Blocking; safe in any thread.

    Files have mode 0600, folders 0700. Hashes are 64 lower-case hexadecimal digits, everything else raises
    InvalidRequest before it touches a path. Ownership is not checked here.
    """

    def __init__(
        self,
        root: Path,
        limit_bytes: int,
        max_upload_bytes: int,
        free_reserve_bytes: int,
        clock: Callable[[], float] = time.time,
        left_to_results: Callable[[], int] = lambda: 0,
        max_result_bytes: int | None = None,
    ) -> None:
        """Load the files in ``root``, created if missing; raises ConfigError where others can read the folder.

        One upload may have ``max_upload_bytes``, and a result ``max_result_bytes`` (None: no more than an upload).

        ``left_to_results`` says how many bytes of the limit uploads must leave; it is called in any thread.
        """
        self._root = private_folder(root)
        self._partials = private_folder(root / "partial")
        self._max_upload_bytes = max_upload_bytes
        self._max_result_bytes = max_upload_bytes if max_result_bytes is None else max_result_bytes
        self._clock = clock
        self._verified_s: dict[str, float] = {}
        self._ledger = BlobLedger(
            limit_bytes, free_reserve_bytes, lambda: shutil.disk_usage(root).free, left_to_results
        )
        for number in range(256):
            (root / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
        sync_folder(root)
        self._scan()

    def begin(self, digest: str, size: int, owner: str, own_bytes: int | None = None, *, known: bool = True) -> Upload:
        """Open an upload of ``size`` bytes that continues where an earlier one of ``owner`` stopped.

        ``owner`` (up to 64 letters, digits, ``.``, ``_`` and ``-``) tells uploaders apart; ``own_bytes`` is how much it
        may have under way, None for a result. A blob that is stored already and that the owner may know of counts as
        used and needs no bytes: ``offset`` is ``size``. It is read first, unless that was a moment ago: one that the
        disk has damaged is wanted again, as is one of another size. For an owner that may not know of it, it makes no
        difference that it is there. Raises InvalidRequest, BlobTooLarge, QuotaExceeded and DiskFull before any byte is
        taken, DiskUnavailable, BlobError.
        """
        final = self._path(digest)
        if not _OWNER.fullmatch(owner):
            raise InvalidRequest(f"{owner[:80]!r} cannot be part of a file's name.", field="owner")
        self._check_size(size, result=own_bytes is None)
        if known and self._ledger.size(digest) == size:
            self._remove_if_damaged(digest)
        with self._ledger.changing():
            if stored := known and self._ledger.size(digest) == size:
                self.touch(digest)
                name = digest
            else:
                name = self._ledger.reserve(partial_names(digest, owner), size, Claim(owner, own_bytes))
        return Upload(self._partials / name, final, size, ledger=self._ledger, clock=self._clock, stored=stored)

    def put(self, data: bytes) -> str:
        """Store ``data`` at once; returns its hash. Raises as ``begin`` and ``Upload`` do."""
        digest = hashlib.sha256(data).hexdigest()
        upload = self.begin(digest, len(data), "daemon")
        if upload.offset < len(data):
            upload.write(upload.offset, memoryview(data)[upload.offset :])
        upload.finish()
        return digest

    def touch(self, *digests: str) -> None:
        """Count a use of stored blobs, so that no collection that was asked for earlier takes them.

        Raises UnknownBlob for the first that is not stored.
        """
        for digest in digests:
            path, now = self._path(digest), self._clock()
            with self._ledger.changing():
                self._ledger.touch(digest, now)
                with self._reading(digest):
                    os.utime(path, (now, now))

    def exists(self, digest: str) -> bool:
        self._path(digest)
        return self._ledger.size(digest) is not None

    def size(self, digest: str) -> int:
        """Bytes of a stored blob; raises UnknownBlob."""
        self._path(digest)
        if (size := self._ledger.size(digest)) is None:
            raise unknown_blob(digest)
        return size

    def open_read(self, digest: str) -> BufferedReader:
        """Open a stored blob for reading; raises UnknownBlob."""
        path = self._path(digest)
        self.size(digest)
        with self._reading(digest):
            return path.open("rb")

    def read(self, digest: str, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset`` on, fewer at the end; raises UnknownBlob, InvalidRequest."""
        size = self.size(digest)
        if not 0 <= offset <= size or length < 0:
            raise InvalidRequest(f"{length} bytes at {offset} are not within {size}.", field="offset")
        with self.open_read(digest) as file:
            file.seek(offset)
            return file.read(length)

    def verify(self, digest: str) -> None:
        """Read a stored blob whole and compare its hash; raises UnknownBlob, or BlobDamaged for a damaged one.

        A damaged one is removed, since it would stand in the way of an upload that replaces it.
        """
        with self.open_read(digest) as file:
            seen = os.fstat(file.fileno())
            try:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                found = "unreadable"
        if found != digest:
            self._remove_damaged(digest, seen)
            raise BlobDamaged(
                f"Picture {digest} was damaged on the daemon's disk.",
                "Upload it again, then submit the edit again under a new id; and check that disk.",
                hash=digest,
            )
        self._verified_s[digest] = time.monotonic()

    def _remove_if_damaged(self, digest: str) -> None:
        if time.monotonic() - self._verified_s.get(digest, -_TRUSTED_S) < _TRUSTED_S:
            return
        if len(self._verified_s) > _REMEMBERED:
            self._verified_s.clear()
        with suppress(UnknownBlob, BlobDamaged):
            self.verify(digest)

    def _remove_damaged(self, digest: str, seen: os.stat_result) -> None:
        """Remove the file that was ``seen``, unless a new one has taken its place since."""
        path = self._path(digest)
        with self._ledger.changing(), self._reading(digest):
            if os.path.samestat(path.stat(), seen):
                path.unlink()
                self._ledger.forget(digest)

    def usage(self) -> Usage:
        """Usage now, in bytes."""
        return self._ledger.usage()

    def under_way(self, owner: str) -> int:
        """Bytes of an owner's unfinished uploads, as they count in the owner's share."""
        return self._ledger.under_way(owner)

    def collect(self, pinned: Set[str], unpinned_before: float) -> Removed:
        """Remove blobs that are not ``pinned`` and abandoned uploads, where last used before that moment."""
        blobs, uploads = self._ledger.idle(pinned, unpinned_before)
        return self._remove(blobs, uploads)

    def shortfall(self, size: int, pinned: Set[str], used_before: float, *, result: bool = False) -> int:
        """Bytes that are missing for an upload of ``size`` even without the unpinned blobs not used since then."""
        idle, _ = self._ledger.idle(pinned, used_before)
        return max(0, self._ledger.shortfall(size, result=result) - sum(kept.size for kept in idle.values()))

    def remove(self, digest: str, used_before: float) -> Removed:
        """Remove a stored blob, unless it was used at that moment or later."""
        idle, _ = self._ledger.idle(frozenset(), used_before)
        return self._remove({digest: idle[digest]} if digest in idle else {}, {})

    def make_room(
        self,
        size: int,
        pinned: Set[str],
        used_before: float,
        *,
        owner: str | None = None,
        result: bool = False,
    ) -> Removed:
        """Remove just enough, oldest first, for an upload of ``size`` bytes: abandoned uploads, then unpinned blobs.

        Of the uploads only those of ``owner`` are removed (None: of all). ``used_before`` must lie before the moment at
        which ``pinned`` was put together. Raises DiskFull, with nothing removed, where all of it would not be enough.
        """
        self._check_size(size, result=result)
        needed = self._ledger.shortfall(size, result=result)
        blobs, uploads = self._ledger.idle(pinned, used_before)
        uploads = {name: kept for name, kept in uploads.items() if owner is None or owner_of(name) == owner}
        candidates = uploads | blobs
        wanted = enough(candidates, needed)
        if wanted is None:
            raise DiskFull(
                f"{needed} bytes are missing for a blob of {size}, and only "
                f"{sum(kept.size for kept in candidates.values())} can be removed.",
                "Release finished jobs and close sessions, or raise the limit in the daemon's configuration.",
                size=size,
                missing=needed,
            )
        chosen = set(list(candidates)[:wanted])
        return self._remove(
            {digest: kept for digest, kept in blobs.items() if digest in chosen},
            {name: kept for name, kept in uploads.items() if name in chosen},
        )

    def _remove(self, blobs: dict[str, Kept], uploads: dict[str, Kept]) -> Removed:
        gone = tuple(digest for digest, kept in blobs.items() if self._remove_idle(digest, kept, self._path(digest)))
        ended = [name for name, kept in uploads.items() if self._remove_idle(name, kept, self._partials / name)]
        return Removed(
            gone, len(ended), sum(blobs[digest].size for digest in gone) + sum(uploads[name].size for name in ended)
        )

    def _remove_idle(self, name: str, kept: Kept, path: Path) -> bool:
        with self._ledger.changing():
            if not self._ledger.is_idle(name, kept):
                return False
            try:
                path.unlink(missing_ok=True)
            except PermissionError:  # open in another thread, which Windows does not allow to remove
                return False
            self._ledger.forget(name)
            self._ledger.drop(name)
            return True

    def _scan(self) -> None:
        for path in self._files():
            status = path.stat()
            if status.st_size == 0:  # what a crash of the machine can leave of a file
                path.unlink()
            else:
                self._ledger.store(path.name, Kept(status.st_size, status.st_mtime))
        for path in self._partials.iterdir():
            if _PARTIAL.fullmatch(path.name):
                status = path.stat()
                self._ledger.suspend(path.name, Kept(status.st_size, status.st_mtime))
            elif _OLD_PARTIAL.fullmatch(path.name):
                path.unlink()

    def _files(self) -> Iterator[Path]:
        """Files of blobs; raises OSError. Not by glob, which takes a folder that cannot be read for empty."""
        for number in range(256):
            with os.scandir(self._root / f"{number:02x}") as entries:
                found = [Path(entry) for entry in entries]
            yield from (path for path in found if _HASH.fullmatch(path.name) and path.name[:2] == path.parent.name)

    @contextmanager
    def _reading(self, digest: str) -> Iterator[None]:
        """Turn a file that somebody else removed into UnknownBlob, and forget it."""
        try:
            yield
        except FileNotFoundError as error:
            self._ledger.forget(digest)
            raise unknown_blob(digest) from error

    def _check_size(self, size: int, *, result: bool) -> None:
        most = self._max_result_bytes if result else self._max_upload_bytes
        if size < 1:
            raise InvalidRequest(f"A blob of {size} bytes cannot be stored.", "Send at least one byte.", field="size")
        if size > most:
            raise BlobTooLarge(
                f"{'A result' if result else 'A picture'} of {size} bytes is above the limit of {most}.",
                "Ask for a JPEG, or for a smaller result." if result else "Send a smaller file, such as a JPEG.",
                size=size,
                limit=most,
            )

    def _path(self, digest: str) -> Path:
        if not _HASH.fullmatch(digest):
            raise InvalidRequest(
                f"{digest[:80]!r} is not a SHA-256 hash.", "Send 64 lower-case hexadecimal digits.", field="hash"
            )
        return self._root / digest[:2] / digest
