"""The files that a pull wants, those that are missing, and whether the disk has room for them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Literal

from qied_client.errors import DiskFull, DownloadFailed, InvalidRequest, ModelNotFound
from qied_client.protocol.fields import FieldError, NameInFolder
from qied_client.text import file_size

_NAME: Final = NameInFolder(1024)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}", re.ASCII)
_HASH: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository: its path there, its bytes, and the hash by which the hub knows it.

    The hash is the SHA-256 of the file where it is a large one (LFS), else the SHA-1 that git has of it.
    """

    path: str
    bytes: int
    hash: str


@dataclass(frozen=True)
class Listing:
    """The files of a repository at one commit, as the hub says; nothing in it is checked yet."""

    repository: str
    commit: str
    files: tuple[RemoteFile, ...]


@dataclass(frozen=True)
class Stock:
    """How much of one file is there: so many bytes of the file at ``content``.

    ``partial`` until all of them are there, ``whole`` then, and ``placed`` once the file lies where it is looked for.
    """

    file: RemoteFile
    content: Path
    bytes: int
    state: Literal["partial", "whole", "placed"]


@dataclass(frozen=True)
class Missing:
    """The files not in place, and the bytes to fetch for them."""

    stocks: tuple[Stock, ...]
    bytes: int


def wanted_files(
    listing: Listing, patterns: Mapping[str, Sequence[str]], only: Iterable[str] = ()
) -> tuple[RemoteFile, ...]:
    """The files that fit the patterns of these parts, or of all parts, in the order of the listing.

    Raises InvalidRequest for an unknown part, ModelNotFound for patterns without a file, and DownloadFailed where a
    name would lead out of its folder, or a hash is none.
    """
    parts = list(only) or list(patterns)
    if unknown := [part for part in parts if part not in patterns]:
        raise InvalidRequest(f"There is no part {unknown[0]!r}.", f"The parts are {', '.join(patterns)}.", field="only")
    asked = [pattern for part in parts for pattern in patterns[part]]
    if unmet := [pattern for pattern in asked if not any(fnmatchcase(file.path, pattern) for file in listing.files)]:
        raise ModelNotFound(
            f"{listing.repository} has no {', '.join(unmet)} at commit {listing.commit[:12]}.",
            "It may have been renamed since this version of qied: look for a newer one.",
        )
    files = tuple(file for file in listing.files if any(fnmatchcase(file.path, pattern) for pattern in asked))
    # Names, hashes and the commit become paths here, so what a hub says of them is not simply believed.
    unsound = [repr(file.path) for file in files if not _is_sound(file)]
    if unsound or not _COMMIT.fullmatch(listing.commit):
        raise DownloadFailed(
            f"The hub's list of {listing.repository} is not valid: {', '.join(unsound) or repr(listing.commit)}.",
            "Nothing was downloaded. Check that HF_ENDPOINT, if it is set, names a hub that you trust.",
        )
    return files


def _is_sound(file: RemoteFile) -> bool:
    try:
        _NAME(file.path)
    except FieldError:
        return False
    drive_or_stream = ":" in file.path  # on Windows
    return not drive_or_stream and _HASH.fullmatch(file.hash) is not None and file.bytes >= 0


def missing(stocks: Iterable[Stock]) -> Missing:
    """What is left to do; files with the same content count once."""
    left = tuple(stock for stock in stocks if stock.state != "placed")
    to_fetch = {stock.content: stock.file.bytes - stock.bytes for stock in left}
    return Missing(left, sum(to_fetch.values()))


def check_room(bytes_to_fetch: int, free: int, reserve: int, folder: Path) -> None:
    """Raise DiskFull if the download does not fit the ``free`` bytes of a disk, less ``reserve``."""
    room = max(free - reserve, 0)
    if bytes_to_fetch > room:
        raise DiskFull(
            f"{file_size(bytes_to_fetch)} are still to download, but the disk of {folder} has room for "
            f"{file_size(room)}: {file_size(free)} are free, of which {file_size(reserve)} stay free.",
            f"Free {file_size(bytes_to_fetch - room)}, or name a folder on another disk: --to FOLDER, or HF_HOME for "
            "the whole cache. storage.free_reserve_bytes is what stays free.",
            needed=bytes_to_fetch,
            free=free,
            reserve=reserve,
        )
