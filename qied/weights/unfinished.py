"""Downloads that did not come to their end, by what downloading programs leave: such a file may look whole."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from qied.weights.problems import BadFile

_UNFINISHED: Final = (".part", ".partial", ".incomplete", ".crdownload", ".download", ".!qb", ".aria2")
_BESIDE: Final = ".aria2"
"""aria2 makes the file in its full length at once, and keeps next to it what is still missing."""
_BESIDE_EMPTY: Final = ".part"
"""Firefox makes an empty file, and writes to another."""
_FINISH: Final = "Let the download finish, or start it again."


def check_download(path: Path, size: int) -> None:
    """Raise BadFile where a file of ``size`` bytes is, by its name or by what lies next to it, not all there yet."""
    if path.name.lower().endswith(_UNFINISHED):
        raise BadFile("it is a download that has not finished", _FINISH)
    beside = path.with_name(path.name + (_BESIDE if size else _BESIDE_EMPTY))
    if _is_there(beside):
        raise BadFile(f"its download has not finished: {beside.name} lies next to it", _FINISH)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
