"""Names of results: patterns with ``{stem}``, ``{name}``, ``{index}``, ``{seed}`` and ``{n}`` in them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from qied_client.batch.places import found
from qied_client.batch.rows import Row
from qied_client.errors import InvalidRequest
from qied_client.installing import install_extra
from qied_client.system_failures import with_home

FIELDS: Final = ("stem", "name", "index", "seed", "n")
FORMATS: Final = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}
"""Format of a file by its suffix."""
_WITHOUT_QUALITY: Final = {"jpeg": 95, "webp": 100}
_FIELD: Final = re.compile(r"\{([^{}]*)\}")


class Names:
    """The patterns of ``--out``, one for each format; raises InvalidRequest for one that names no file."""

    def __init__(self, patterns: Sequence[str], *, count: int = 1, quality: int | None = None) -> None:
        self.patterns = [_checked(pattern) for pattern in patterns]
        self.quality = quality
        self._count = count
        self.kinds = [FORMATS[Path(pattern).suffix.lower()] for pattern in self.patterns]
        if not patterns:
            raise InvalidRequest("No name for the results is given.", "Name them: -o out/{stem}.png", field="out")
        if quality is not None and (not 1 <= quality <= 100 or set(self.kinds) == {"png"}):
            message = f"must be 1 to 100, not {quality}." if set(self.kinds) != {"png"} else "a PNG has none."
            raise InvalidRequest(f"quality: {message}", "Leave it out for the usual one.", field="output_quality")
        if len(patterns) > 1 and find_spec("PIL") is None:
            raise InvalidRequest(
                "Several formats at once need Pillow.", install_extra("qied-client[pictures]"), field="out"
            )

    @property
    def folder(self) -> Path:
        """The folder of the first pattern, up to its first field: where the state and the report are."""
        fixed = with_home(self.patterns[0]).parts
        steady = [part for part in fixed[:-1] if not _FIELD.search(part)]
        return Path(*steady) if steady else Path()

    def paths(self, row: Row, number: int, seed: int | str) -> tuple[Path, ...]:
        """The files of variation ``number`` (from 1) of a row; ``seed`` may be what stands for one."""
        values = {
            "stem": row.stem,
            "name": row.name or row.stem,
            "index": f"{row.index:04}",
            "seed": str(seed),
            "n": str(number),
        }
        return tuple(with_home(self._filled(pattern, values)) for pattern in self.patterns)

    def _filled(self, pattern: str, values: dict[str, str]) -> str:
        text = _FIELD.sub(lambda match: values[match[1]], pattern)
        if self._count > 1 and not {"seed", "n"} & set(_FIELD.findall(pattern)):
            path = Path(text)
            text = str(path.with_name(f"{path.stem}-{values['n']}{path.suffix}"))
        return text

    def asks(self) -> dict[str, Any]:
        """The options by which the daemon makes the file; of several formats it makes the one that loses nothing."""
        if len(self.kinds) > 1:
            return {"output_format": "png"}
        kind = self.kinds[0]
        return {"output_format": kind} | (
            {"output_quality": self.quality or _WITHOUT_QUALITY[kind]} if kind in _WITHOUT_QUALITY else {}
        )

    def quality_of(self, path: Path) -> int | None:
        """The quality with which a file is written here; None where it gets the daemon's bytes as they are."""
        kind = FORMATS[path.suffix.lower()]
        return self.quality if len(self.kinds) > 1 and kind in _WITHOUT_QUALITY else None


def filled(pattern: str, row: Row) -> str:
    """A path of an input, such as a mask's, with the fields of a row; raises InvalidRequest for unknown ones."""
    values = {"stem": row.stem, "name": row.name or row.stem, "index": f"{row.index:04}"}

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise _unknown(match[1], values)
        return values[match[1]]

    return str(found(with_home(_FIELD.sub(value, pattern))))


def _checked(pattern: str) -> str:
    if pattern.endswith(("/", "\\")) or with_home(pattern).is_dir():
        pattern = str(Path(pattern) / "{stem}.png")
    for name in _FIELD.findall(pattern):
        if name not in FIELDS:
            raise _unknown(name, FIELDS)
    if Path(pattern).suffix.lower() not in FORMATS:
        folder = "" if Path(pattern).suffix else f" For a new folder write {pattern}/"
        raise InvalidRequest(
            f"{pattern}: results are PNG, WebP or JPEG.",
            f"Choose a name that ends in .png, .webp or .jpg.{folder}",
            field="out",
        )
    return pattern


def _unknown(name: str, known: Any) -> InvalidRequest:
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"Did you mean {{{near[0]}}}?" if near else f"Names may have {', '.join(f'{{{each}}}' for each in known)}."
    return InvalidRequest(f"A name cannot have {{{name}}}.", hint, field="out")
