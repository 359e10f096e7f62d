"""Reads small files of models: texts and JSON within a limit, and folders that may be missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from qied.weights.problems import BadFile

MAX_JSON_BYTES: Final = 16 * 1024 * 1024
"""The index of a sharded model has some 200 KB."""


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
