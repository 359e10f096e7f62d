"""Paths in one form, however they were written: for thousands of files in few folders."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path


def whole(path: str | os.PathLike[str]) -> str:
    """The path from the root, its folder without links; the file itself may be a link."""
    folder, name = os.path.split(os.fspath(path))
    return f"{_resolved(folder)}{os.sep}{name}"


@lru_cache(maxsize=1024)
def _resolved(folder: str) -> str:
    return str(Path(folder).resolve()).rstrip(os.sep)
