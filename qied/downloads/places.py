"""Where pulled files go: the Hugging Face cache, or a plain folder; both as the hub's own tools lay them out."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Final, Protocol

from huggingface_hub import hf_hub_download
from qied_client.errors import DownloadFailed

from qied import __version__
from qied.downloads.partial import new_hash
from qied.downloads.wanted import Listing, RemoteFile, Stock

_PARTIAL: Final = ".qied-partial"
"""Not the hub's own ``.incomplete``: those may have holes."""


class Place(Protocol):
    """What takes files in: content is written to ``partial``, renamed to ``content``, and then settled."""

    folder: Path
    lock: Path

    def stock(self, file: RemoteFile) -> Stock:
        """Report how much of a file is already there."""
        ...

    def partial(self, file: RemoteFile) -> Path:
        """Where the bytes of a file are gathered until it is whole."""
        ...

    def settle(self, file: RemoteFile) -> None:
        """Make a file whose content is there usable under its name in ``folder``; raises DownloadFailed, OSError."""
        ...

    def finish(self) -> None:
        """All files are settled."""
        ...


class HubCache:
    """The Hugging Face cache: contents under their hashes in ``blobs``, links to them in a folder of each commit.

    https://huggingface.co/docs/huggingface_hub/guides/manage-cache describes it.
    """

    def __init__(self, cache: Path, listing: Listing, revision: str, endpoint: str | None = None) -> None:
        name = f"models--{listing.repository.replace('/', '--')}"
        self._cache, self._listing, self._revision, self._endpoint = cache, listing, revision, endpoint
        self._repository = cache / name
        self.folder = self._repository / "snapshots" / listing.commit
        self.lock = cache / ".locks" / name / "qied-pull.lock"

    def stock(self, file: RemoteFile) -> Stock:
        """Report how much of a file is already there; a content of the right size under its hash counts as whole."""
        content = self._repository / "blobs" / file.hash
        if _size(self.folder / file.path) == file.bytes:
            return Stock(file, content, file.bytes, "placed")
        if _size(content) == file.bytes:
            return Stock(file, content, file.bytes, "whole")
        return Stock(file, content, _usable(self.partial(file), file), "partial")

    def partial(self, file: RemoteFile) -> Path:
        """Next to the complete contents, so that the last step is a renaming."""
        return self._repository / "blobs" / f"{file.hash}{_PARTIAL}"

    def settle(self, file: RemoteFile) -> None:
        """Let the hub's library make the link: it finds the content there, and asks only for the file's headers."""
        hf_hub_download(
            self._listing.repository,
            file.path,
            revision=self._listing.commit,
            cache_dir=self._cache,
            endpoint=self._endpoint,
            library_name="qied",
            library_version=__version__,
        )
        if self.stock(file).state != "placed":
            raise DownloadFailed(
                f"{self.folder / file.path} does not have the {file.bytes} bytes listed.",
                "Remove it, then try again.",
            )

    def finish(self) -> None:
        """Note which commit the branch stands for, as programs look it up that work without the network."""
        if self._revision != self._listing.commit:
            _write(self._repository / "refs" / self._revision, self._listing.commit)


class PlainFolder:
    """A folder with the files under their own names, and a note on each as ``hf download --local-dir`` makes them."""

    def __init__(self, folder: Path, listing: Listing) -> None:
        self.folder = folder
        self.lock = folder / ".cache" / "huggingface" / "qied-pull.lock"
        self._notes = folder / ".cache" / "huggingface" / "download"
        self._commit = listing.commit

    def stock(self, file: RemoteFile) -> Stock:
        """Report how much of a file is there; one of the right size without a note is read and hashed."""
        content = self.folder / file.path
        if _size(content) == file.bytes:
            if self._noted_hash(file) == file.hash:
                return Stock(file, content, file.bytes, "placed")
            if hash_of(content, file.hash) == file.hash:
                return Stock(file, content, file.bytes, "whole")
        return Stock(file, content, _usable(self.partial(file), file), "partial")

    def partial(self, file: RemoteFile) -> Path:
        """Out of sight, on the same file system."""
        return self._notes / f"{file.path}.{file.hash[:16]}{_PARTIAL}"

    def settle(self, file: RemoteFile) -> None:
        """Note commit, hash and time of a file, by which the next pull, the doctor and ``hf`` know it."""
        _write(self._note(file), f"{self._commit}\n{file.hash}\n{time.time()}\n")

    def finish(self) -> None:
        """Nothing is left to do."""

    def _note(self, file: RemoteFile) -> Path:
        return self._notes / f"{file.path}.metadata"

    def _noted_hash(self, file: RemoteFile) -> str | None:
        try:
            lines = self._note(file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return None
        return lines[1] if len(lines) > 1 else None


def hash_of(path: Path, like: str) -> str:
    """The hash of a file, of the kind that ``like`` is: SHA-256 with 64 digits, else the SHA-1 that git has of it."""
    with path.open("rb") as file:
        started = new_hash(like, path.stat().st_size)
        return hashlib.file_digest(file, lambda: started).hexdigest()


def nearest_folder(path: Path) -> Path:
    """The innermost folder around ``path`` that is there: on its file system ``path`` will be."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def _size(path: Path) -> int | None:
    """Bytes of a file, links followed; None where there is none."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def _usable(partial: Path, file: RemoteFile) -> int:
    """Bytes of an earlier attempt from which the next one resumes."""
    there = _size(partial) or 0
    return there if there <= file.bytes else 0


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
