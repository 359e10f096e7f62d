"""Paths in one form, however they were written: for thousands of files in few folders, from any system."""

from __future__ import annotations

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
