"""The opacity of a picture apart from its colours, and which of both marks in a mask that does not say so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import numpy as np
from PIL import Image

MaskMeaning = Literal["white", "transparent", "opaque"]
Guess = Literal["", "painted", "hole", "colours"]
"""How a mask was read that could mean several things."""

_GREY_SPREAD: Final = 24
"""Between the channels of a grey pixel, at most."""
_BAND_PIXELS: Final = 1_000_000


def split_alpha(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colour as 8-bit "L", "RGB" or "CMYK", and opacity as "L" if the file has any transparency."""
    key = picture.info.get("transparency")
    if picture.mode == "I;16":
        return _split_gray_16(picture, key)
    if picture.mode in ("1", "L", "CMYK") and key is None:
        return (picture.convert("L") if picture.mode == "1" else picture), None
    if picture.mode in ("LA", "1", "L"):
        both = picture.convert("LA")
        return both.getchannel("L"), both.getchannel("A")
    if picture.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        picture.info["transparency"] = tuple(level >> 8 for level in key)
    if picture.has_transparency_data:
        whole = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        return whole.convert("RGB"), whole.getchannel("A")
    return picture.convert("RGB"), None


def _split_gray_16(picture: Image.Image, key: object) -> tuple[Image.Image, Image.Image | None]:
    gray = Image.new("L", picture.size)
    opacity = Image.new("L", picture.size) if isinstance(key, int) else None
    for band in _bands(picture):
        levels = np.asarray(picture.crop(band), dtype=np.uint32)
        gray.paste(Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8)), band)
        if opacity is not None:
            opacity.paste(Image.fromarray(np.where(levels == key, 0, 255).astype(np.uint8)), band)
    return gray, opacity


def mask_meaning(colour: Image.Image, alpha: Image.Image | None) -> tuple[MaskMeaning, Guess]:
    """How a mask of no stated convention is read, and the guess in that, of what ``split_alpha`` gives.

    One without transparency is read as ``white``, one of a single visible colour as ``opaque``, and one of several as
    ``transparent``, unless they are greys.
    """
    if alpha is None or alpha.getextrema()[0] == 255:
        return "white", "" if _is_grey(colour) else "colours"
    if _one_colour(colour, alpha):
        return "opaque", "painted"
    return ("white", "") if _is_grey(colour) else ("transparent", "hole")


def _is_grey(colour: Image.Image) -> bool:
    """Whether a picture has no colours but greys, but for what JPEG leaves of them."""
    if colour.mode == "L":
        return True
    for band in _bands(colour):
        levels = np.asarray(colour.crop(band).convert("RGB")).astype(np.int16)
        if int((levels.max(axis=2) - levels.min(axis=2)).max()) > _GREY_SPREAD:
            return False
    return True


def _one_colour(colour: Image.Image, alpha: Image.Image) -> bool:
    """Whether all that is visible has one colour, and something is not opaque."""
    transparent, first = False, None
    for band in _bands(colour):
        opacity = np.asarray(alpha.crop(band))
        visible = np.asarray(colour.crop(band))[opacity > 0]
        transparent = transparent or bool((opacity < 255).any())
        if first is None and len(visible):
            first = visible[:1]
        if first is not None and not (visible == first).all():
            return False
    return transparent


def _bands(picture: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Boxes of some rows each that cover a picture: arrays of all of it at once take several times its memory."""
    rows = max(1, _BAND_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        yield 0, top, picture.width, min(top + rows, picture.height)
