"""Where rows come from: folders, patterns, single pictures, and manifests."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from qied_client.batch.manifest import SUFFIXES, rows_of_manifest
from qied_client.batch.problems import Problems
from qied_client.batch.report import is_sheet
from qied_client.batch.rows import Row, numbered
from qied_client.errors import InvalidRequest
from qied_client.system_failures import what_helps, with_home

PICTURE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif", ".jxl")
_PATTERN: Final = set("*?[")


def is_source(word: str) -> bool:
    """Whether a word names pictures or a manifest, rather than being a prompt."""
    path = with_home(word)
    try:
        return is_manifest(word) or path.exists() or (bool(set(word) & _PATTERN) and bool(_matches(word)))
    except (OSError, ValueError):  # too long for a name: a prompt
        return False


def is_manifest(word: str) -> bool:
    """Whether a name is that of a manifest."""
    return " " not in Path(word).suffix and word.lower().endswith(SUFFIXES)


def rows_of(sources: Sequence[str], prompt: str, options: Mapping[str, Any], problems: Problems) -> Iterator[Row]:
    """The rows of all sources, one by one, numbered through; what is wrong with a manifest goes to ``problems``.

    Raises InvalidRequest for a source that does not exist, or in which there is no picture.
    """
    manifests = [source for source in sources if is_manifest(source)]
    if manifests:
        if len(sources) > 1:
            raise InvalidRequest(
                f"{manifests[0]} is a manifest, and other sources are given too.",
                "Give the manifest alone, with a row for each picture.",
                field="sources",
            )
        yield from rows_of_manifest(with_home(manifests[0]), prompt, options, problems)
        return
    if not prompt:
        raise InvalidRequest("The prompt is missing.", "Name the pictures, then the prompt in quotes.", field="prompt")
    yield from numbered((path for source in sources for path in _pictures(source)), prompt, options)


def _pictures(source: str) -> Iterator[Path]:
    path = with_home(source)
    if path.is_dir():
        found = [each for each in _listing(path) if each.suffix.lower() in PICTURE_SUFFIXES and not is_sheet(each)]
        if not found:
            raise InvalidRequest(
                f"{path}: there is no picture in this folder.",
                f"Pictures end in {', '.join(PICTURE_SUFFIXES)}. For those of folders in it: '{path}/**/*.png'",
                field="sources",
            )
        yield from found
    elif path.is_file():
        yield path
    elif set(source) & _PATTERN:
        matches = _matches(source)
        if not matches:
            raise InvalidRequest(f"{source}: no file has such a name.", "Check the pattern.", field="sources")
        yield from matches
    else:
        raise InvalidRequest(
            f"{source}: there is no such file or folder.", "Check the name; the prompt comes last.", field="sources"
        )


def _listing(folder: Path) -> list[Path]:
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise InvalidRequest(f"{folder}: {error.strerror}.", what_helps(error), field="sources") from error
    return [path for path in found if not path.name.startswith(".") and path.is_file()]


def _matches(pattern: str) -> list[Path]:
    found = sorted(glob.glob(str(with_home(pattern)), recursive=True))  # noqa: PTH207 (absolute ones as well)
    return [Path(name) for name in found if Path(name).is_file() and not is_sheet(Path(name))]
