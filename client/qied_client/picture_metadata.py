"""How a picture was made, as the daemon writes it into PNG, WebP and JPEG files; reading it needs Pillow.

A PNG has it as JSON in a text chunk (iTXt) "qied", the others after "qied:" in Exif's ImageDescription.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from qied_client.errors import SetupError
from qied_client.inputs import picture_bytes
from qied_client.installing import install_extra
from qied_client.picture_header.header import PictureLimits, read_header

if TYPE_CHECKING:
    from PIL.Image import Image

PNG_KEY: Final = "qied"
EXIF_PREFIX: Final = "qied:"
_WRITTEN: Final = ("png", "jpeg", "webp")
"""Formats that results have."""
SHORT_HASH: Final = 12
"""Digits of a hash that people are shown."""
_IMAGE_DESCRIPTION: Final = 0x010E


@dataclass(frozen=True)
class PictureMetadata:
    """What a person needs to make the same edit again; ``width`` and ``height`` are pixels of the result.

    ``version`` is that of the qied which made it. ``loras`` are names with their strengths. ``sources`` and ``mask``
    are SHA-256 hashes (hex) of the picture files that went in. Files of qied 0.2.0 do not have ``precision`` and
    what comes after it. ``preset`` is also empty where no preset gave the settings. ``size`` is "same" where the
    result has its source's own size, and "default" where its sides follow from the source's proportions alone.
    ``original_prompt`` is what was asked for, where a rewriter made ``prompt`` of it. ``background`` is empty where
    none was asked for. ``redraw`` are the passes as ``--redraw`` takes them, over ``canvas`` (a hash) where there
    is one. ``drift`` are shift (right and down, in pixels) and zoom that were measured, and with ``aligned``
    undone. ``upscale`` is the model that made the sides ``upscale_by`` times as long; ``steps`` are 0 where nothing
    else was done. ``compat`` is as ``--compat`` takes it, and ``size`` "kontext" where that gave the size.
    """

    prompt: str
    negative_prompt: str | None
    seed: int
    steps: int
    true_cfg_scale: float
    width: int
    height: int
    model: str
    version: str
    loras: tuple[tuple[str, float], ...] = ()
    precision: str = ""
    preset: str = ""
    schedule: str = ""
    sources: tuple[str, ...] = ()
    mask: str | None = None
    warnings: tuple[str, ...] = ()
    size: str = ""
    mask_mode: str = ""
    original_prompt: str = ""
    background: str = ""
    redraw: tuple[str, ...] = ()
    canvas: str | None = None
    drift: tuple[float, ...] = ()
    aligned: bool = False
    upscale: str = ""
    upscale_by: int = 1
    compat: str = ""


def read_metadata(picture: str | os.PathLike[str] | bytes) -> PictureMetadata | None:
    """Read back what qied wrote into a PNG, WebP or JPEG file; None where there is nothing of it, or nothing whole.

    ``picture`` is a file's path, or its bytes. No pixel of a PNG is decoded. Fields of a later version are passed over.
    Raises a PictureError if it is not a picture that qied accepts, InvalidRequest if the file cannot be read,
    BlobTooLarge above 64 MiB, and SetupError where Pillow is missing.
    """
    data = picture_bytes(picture)
    header = read_header(BytesIO(data), PictureLimits())
    if header.format not in _WRITTEN:
        return None
    try:
        from PIL import Image
    except ImportError:
        raise SetupError(
            "Reading how a picture was made needs Pillow.",
            f"Install it: {install_extra('qied-client[pictures]')}",
        ) from None
    try:
        with Image.open(BytesIO(data), formats=[header.format]) as image:
            stored = _stored_json(image)
        return None if stored is None else _checked(json.loads(stored))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def _stored_json(image: Image) -> str | None:
    text = image.info.get(PNG_KEY)
    if isinstance(text, str):
        return str(text)
    description = image.getexif().get(_IMAGE_DESCRIPTION) if "exif" in image.info else None
    if isinstance(description, str) and description.startswith(EXIF_PREFIX):
        return description.removeprefix(EXIF_PREFIX)
    return None


def _checked(stored: object) -> PictureMetadata:
    """The metadata, every field of the type that it is declared with; raises ValueError."""
    if not isinstance(stored, Mapping):
        raise ValueError("not a mapping")
    known = {field.name: field for field in fields(PictureMetadata)}
    missing = [name for name, field in known.items() if name not in stored and field.default is MISSING]
    if missing:
        raise ValueError(f"without {missing[0]}")
    return PictureMetadata(**{name: _CHECKS[name](stored[name]) for name in known if name in stored})


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not text")
    value.encode()  # a UnicodeEncodeError is a ValueError
    return value


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("not a count")
    return value


def _scale(value: object) -> int:
    if (found := _count(value)) < 1:
        raise ValueError("not a scale")
    return found


def _number(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError("not a number")
    return float(value)


def _maybe_text(value: object) -> str | None:
    return None if value is None else _text(value)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(item) for item in _list(value))


def _numbers(value: object) -> tuple[float, ...]:
    return tuple(_number(item) for item in _list(value))


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("not true or false")
    return value


def _loras(value: object) -> tuple[tuple[str, float], ...]:
    return tuple(_lora(*_list(item)) for item in _list(value))


def _lora(name: object = None, strength: object = None, *more: object) -> tuple[str, float]:
    if more:
        raise ValueError("not a name and a strength")
    return _text(name), _number(strength)


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("not a list")
    return value


_CHECKS: Final[Mapping[str, Callable[[object], Any]]] = {
    "prompt": _text,
    "negative_prompt": _maybe_text,
    "seed": _count,
    "steps": _count,
    "true_cfg_scale": _number,
    "width": _count,
    "height": _count,
    "model": _text,
    "version": _text,
    "loras": _loras,
    "precision": _text,
    "preset": _text,
    "schedule": _text,
    "sources": _texts,
    "mask": _maybe_text,
    "warnings": _texts,
    "size": _text,
    "mask_mode": _text,
    "original_prompt": _text,
    "background": _text,
    "redraw": _texts,
    "canvas": _maybe_text,
    "drift": _numbers,
    "aligned": _flag,
    "upscale": _text,
    "upscale_by": _scale,
    "compat": _text,
}
