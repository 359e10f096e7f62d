"""The bytes of a request and of its edit in the journal: written, read back, and kept readable across versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgpack
from qied_client.protocol.fields import FieldError, read, write
from qied_client.protocol.messages import MeasuredDrift

T = TypeVar("T")

VERSION: Final = 2
"""Version of the fields of EditRequest and EditSpec together; a field added, removed or changed makes a new one.

2: EditSpec has preset, precision and warnings.
"""
_DRIFT: Final = "drift_"


class UnreadableRow(Exception):
    """The bytes cannot be read; its text says why, as the end of a sentence."""


def pack(value: object, version: int = VERSION) -> bytes:
    """Bytes of a request or a spec: a mapping in version 1, the version and the mapping from version 2 on."""
    fields = write(value)
    return bytes(msgpack.packb(fields if version == 1 else [version, fields]))


def unpack(kind: type[T], stored: object) -> T:
    """Read a request or a spec of this version or an older one; raises UnreadableRow for everything else."""
    version, fields = _parts(stored)
    if version > VERSION:
        raise UnreadableRow(f"a newer qied stored it (version {version}; this one reads up to {VERSION})")
    try:
        return read(kind, fields)
    except FieldError as error:
        raise UnreadableRow(
            f"{error} ({kind.__name__}); another version of qied stored it, or it is damaged"
        ) from error


def size_in(stored: object) -> tuple[int, int]:
    """Width and height that a spec names, as far as they can be read; 0 each where they cannot."""
    try:
        _, fields = _parts(stored)
        sides = [fields.get(name) for name in ("width", "height")]
    except (UnreadableRow, AttributeError):
        return 0, 0
    width, height = (side if type(side) is int and 0 < side < 2**16 else 0 for side in sides)
    return width, height


def pack_measured(timings: Mapping[str, Any], drift: MeasuredDrift | None) -> bytes:
    """Bytes of what was measured of a result: its timings, and its drift next to them."""
    found = {} if drift is None else {f"{_DRIFT}{name}": value for name, value in write(drift).items()}
    return bytes(msgpack.packb({**timings, **found}))


def timings_in(stored: bytes) -> dict[str, Any]:
    """Timings of an outcome; none where they cannot be read."""
    return {name: value for name, value in _measured_in(stored).items() if not name.startswith(_DRIFT)}


def drift_in(stored: bytes) -> MeasuredDrift | None:
    """The drift of an outcome; None where none was measured, or it cannot be read."""
    names = [name for name in _measured_in(stored) if name.startswith(_DRIFT)]
    if not names:
        return None
    try:
        return read(MeasuredDrift, {name.removeprefix(_DRIFT): _measured_in(stored)[name] for name in names})
    except FieldError:
        return None


def _measured_in(stored: bytes) -> dict[str, Any]:
    try:
        found = msgpack.unpackb(stored) if stored else {}
    except (ValueError, TypeError, msgpack.UnpackException):
        return {}
    return found if isinstance(found, dict) and all(isinstance(name, str) for name in found) else {}


def pack_texts(texts: Sequence[str]) -> bytes:
    """Bytes of a list of texts; none for an empty one."""
    return bytes(msgpack.packb(list(texts))) if texts else b""


def texts_in(stored: bytes) -> tuple[str, ...]:
    """The texts of a list; none where they cannot be read."""
    try:
        found = msgpack.unpackb(stored) if stored else []
    except (ValueError, TypeError, msgpack.UnpackException):
        return ()
    return tuple(text for text in found if isinstance(text, str)) if isinstance(found, list) else ()


def _parts(stored: object) -> tuple[int, Any]:
    try:
        found = msgpack.unpackb(stored)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise UnreadableRow("its bytes in the journal are damaged") from error
    match found:
        case dict():
            return 1, found
        case [int(version), dict() as fields] if version > 1:
            return version, fields
    raise UnreadableRow("its bytes in the journal are damaged")
