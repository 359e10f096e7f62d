"""Paths in one form, however they were written: for thousands of files in few folders, from any system."""

from __future__ import annotations

import errno
import os
import unicodedata
from functools import lru_cache
from pathlib import Path


def whole(path: str | os.PathLike[str]) -> str:
    """The path from the root, its folder without links; the file itself may be a link."""
    folder, name = os.path.split(os.fspath(path))
    return f"{_resolved(folder)}{os.sep}{name}"


@lru_cache(maxsize=1024)
def _resolved(folder: str) -> str:
    return str(Path(folder).resolve()).rstrip(os.sep)


def found(path: Path) -> Path:
    """The path; where no such file exists, that of one whose name differs in the Unicode form of its letters alone.

    macOS writes names with the accent behind its letter, and spreadsheets write both as one.
    """
    name = str(path)
    if name.isascii() or path.exists():
        return path
    others = (Path(unicodedata.normalize(form, name)) for form in ("NFC", "NFD"))
    return next((other for other in others if other.exists()), path)


def synced(path: Path) -> None:
    """Wait until a file and its name are on the disk, for what is noted next to outlive a loss of power.

    Raises OSError; shares that cannot sync are left to do it themselves.
    """
    for place, flags in ((path, os.O_RDWR), (path.parent, getattr(os, "O_DIRECTORY", 0))):
        if os.name == "nt" and place != path:  # Windows syncs no folders
            return
        descriptor = os.open(place, flags | getattr(os, "O_BINARY", 0))
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL):
                raise
        finally:
            os.close(descriptor)
