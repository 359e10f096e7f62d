"""Reads small files of models: texts and JSON within a limit, and folders that may be missing."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

from qied.weights.problems import BadFile

MAX_JSON_BYTES: Final = 16 * 1024 * 1024
"""The index of a sharded model has some 200 KB."""
_MOST_FOLDERS: Final = 20_000
"""Below one folder: a link may lead to a whole disk."""


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises BadFile where there is none, or one of more than ``MAX_JSON_BYTES``."""
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise BadFile(f"it cannot be read ({error.strerror})") from error
    if len(text) > MAX_JSON_BYTES:
        raise BadFile(f"it has more than {MAX_JSON_BYTES} bytes")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadFile(f"it is not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise BadFile("it does not hold a JSON object")
    return content


def read_text(path: Path, limit: int) -> str:
    """The text of a small file; empty where it cannot be read or has more than ``limit`` bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError:
        return ""
    return data.decode("utf-8", "replace") if len(data) <= limit else ""


def entries(folder: Path) -> list[Path]:
    """The entries of a folder, sorted; none if it does not exist or may not be read."""
    try:
        return sorted(folder.iterdir())
    except (OSError, ValueError):
        return []


def files_below(folder: Path, suffixes: Collection[str]) -> Iterator[Path]:
    """Files with one of these endings (lower case) in a folder and at every depth below it, links followed, sorted.

    Each folder counts once, however many links lead to it, and hidden ones do not count. Folders that may not be read
    count as empty.
    """
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen or len(seen) >= _MOST_FOLDERS:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            if path.suffix.lower() in suffixes and is_file(path):
                yield path


def is_folder(path: Path) -> bool:
    """Whether a path is a folder that can be looked at."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Whether a path is a file that can be looked at."""
    try:
        return path.is_file()
    except OSError:
        return False
