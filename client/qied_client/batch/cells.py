"""The cells of a manifest: how the text of a column is read, and which types JSON may have for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from qied_client.batch.rows import COLUMNS, PICTURES
from qied_client.options.edit_options import OPTIONS, annotation
from qied_client.options.redraws import redraw_of_text

_FLAGS: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def _text(cell: str) -> Any:
    return cell


def _whole(cell: str) -> int:
    try:
        return int(cell)
    except ValueError:
        raise ValueError(f"{cell[:60]!r} is not a whole number") from None


def _number(cell: str) -> float:
    try:
        return float(cell.replace(",", "."))
    except ValueError:
        raise ValueError(f"{cell[:60]!r} is not a number") from None


def _flag(cell: str) -> bool:
    if cell.lower() not in _FLAGS:
        raise ValueError(f"{cell[:60]!r} is neither true nor false")
    return _FLAGS[cell.lower()]


def _number_or_flag(cell: str) -> float | bool:
    known = _FLAGS.get(cell.lower()) if cell.isalpha() else None
    return _number(cell) if known is None else known


def _parts(cell: str) -> list[str]:
    return [part.strip() for part in cell.split(";") if part.strip()]


def _loras(cell: str) -> list[Any]:
    return [_lora(part) for part in _parts(cell)]


def _lora(text: str) -> str | tuple[str, float]:
    name, colon, strength = text.rpartition(":")
    return (name, _number(strength)) if colon else text


def _redraws(cell: str) -> list[dict[str, Any]]:
    return [redraw_of_text(part, "redraw") for part in _parts(cell)]


_Read = Callable[[str], Any]
_KINDS: Final[Mapping[str, tuple[_Read, Any]]] = {
    "bool": (_flag, bool | None),
    "int": (_whole, int | None),
    "float": (_number, int | float | None),
    "float | bool": (_number_or_flag, int | float | bool | None),
    "Loras": (_loras, str | list | dict | None),
    "Redraws": (_redraws, str | list | dict | None),
}
"""By the type of an option: how a cell is read, and what JSON may have. Any other is text."""


def _kind(column: str) -> tuple[_Read, Any]:
    if column in PICTURES:
        return _text, str | list | None
    kind = annotation(column).removesuffix(" | None") if column in OPTIONS else ""
    return _KINDS.get(kind, (_text, str | None))


READ: Final[Mapping[str, _Read]] = {column: _kind(column)[0] for column in COLUMNS}
"""What reads the text of a cell, by its column; raises ValueError or InvalidRequest, which say what is wrong."""
TYPES: Final[Mapping[str, Any]] = {column: _kind(column)[1] for column in COLUMNS}
"""The types that a value of JSON may have, by its key."""
