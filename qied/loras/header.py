"""The header of a safetensors file: names, types and shapes of its tensors, and what its maker wrote about it.

Read here by hand, since the daemon's front looks at LoRAs and imports nothing that imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

from qied.loras.problems import unusable

_LENGTH_BYTES: Final = 8
_MAX_HEADER_BYTES: Final = 16 * 1024 * 1024
"""Header of some 100,000 tensors: a LoRA has a few thousand."""
_MOST_SIDES: Final = 8
_LARGEST: Final = 1 << 53
"""No side and no offset of a file that exists is larger."""
_BITS: Final = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8}
"""Types of floating-point numbers that a LoRA may be stored in."""


@dataclass(frozen=True)
class Header:
    """Shapes of the tensors of a file by name, and the texts in it."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]


def read_header(path: Path, file: str) -> Header:
    """Read the header and check it against the file's length; raises ModelUnsupported that names ``file``."""
    try:
        length = path.stat().st_size
        with path.open("rb") as stream:
            announced = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            if not 0 < announced <= length - _LENGTH_BYTES:
                raise unusable(file, "it is no safetensors file, or is cut off")
            if announced > _MAX_HEADER_BYTES:
                raise unusable(file, f"its header has {announced} bytes, more than {_MAX_HEADER_BYTES}")
            content = json.loads(stream.read(announced))
    except OSError as error:
        raise unusable(file, f"it cannot be read ({error.strerror})", "Check the file and its permissions.") from error
    except (ValueError, RecursionError):
        raise unusable(file, "it is no safetensors file: its header is no JSON") from None
    if not isinstance(content, dict):
        raise unusable(file, "it is no safetensors file: its header is no JSON object")
    texts = content.pop("__metadata__", {})
    room = length - _LENGTH_BYTES - announced
    return Header({name: _shape(file, name, entry, room) for name, entry in content.items()}, _texts(texts))


def _shape(file: str, name: str, entry: Any, room: int) -> tuple[int, ...]:
    """Check one entry of a header; ``room`` bytes follow the header."""
    try:
        kind, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        whole = isinstance(kind, str) and all(
            type(number) is int and 0 <= number < _LARGEST for number in (*shape, start, end)
        )
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole or len(shape) > _MOST_SIDES:
        raise unusable(file, f"its header is damaged at {name[:80]!r}")
    if kind not in _BITS:
        raise unusable(file, f"{name[:80]!r} holds {kind[:20]!r}, not floating-point numbers of 8 to 64 bits")
    if end > room or end - start != prod(shape) * _BITS[kind] // 8:
        raise unusable(file, f"it is cut off or damaged at {name[:80]}")
    return shape


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(text, str)}
