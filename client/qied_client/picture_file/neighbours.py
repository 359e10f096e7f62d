"""Pictures in a folder by the hashes of their files: how the sources of a result are found again."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from qied_client.protocol import limits
from qied_client.transfers import hash_of

_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp")
_LOOKED_AT_BYTES: Final = 1024**3
"""Bytes of pictures in one folder that are read."""


def files_with_hashes(folder: Path, wanted: Collection[str], *, without: Path | None = None) -> dict[str, Path]:
    """The files of a folder whose SHA-256 (hex) is one of ``wanted``, or begins with it, by what was wanted.

    ``without`` is a file that is not looked at.
    """
    found: dict[str, Path] = {}
    for path in _pictures(folder, without):
        if len(found) == len(wanted):
            break
        with suppress(OSError):
            blob = hash_of(path.read_bytes())
            for each in wanted:
                if blob.startswith(each):
                    found.setdefault(each, path)
    return found


def _pictures(folder: Path, without: Path | None) -> Iterator[Path]:
    """The pictures of a folder, by name, as long as they are not too many bytes to read."""
    left = _LOOKED_AT_BYTES
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() not in _SUFFIXES or path == without or not path.is_file():
                continue
            size = path.stat().st_size
            if size <= limits.BLOB_BYTES:
                left -= size
                if left < 0:
                    return
                yield path
