"""Decoding untrusted picture files to what the engine and the blend take: upright sRGB, or a mask."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from PIL import Image, ImageChops
from qied_client.errors import PictureTooLarge, PictureUnreadable
from qied_client.picture_header.header import PictureHeader, PictureLimits, read_header
from qied_client.pixels.colour import to_srgb
from qied_client.pixels.opacity import Guess, mask_meaning, split_alpha
from qied_client.pixels.plugins import TURNED_BY_DECODER

from qied.edit import MaskMode
from qied.pictures.plugins import load_decoder

PROFILE_IGNORED: Final = "icc_profile_ignored"

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BOMB_ERRORS: Final = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_DECODER_ERRORS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
)


def decode(data: bytes | Path, limits: PictureLimits) -> Image.Image:
    """Decode a picture of any format that is read to an upright "RGB" picture in sRGB; see ``decode_both``."""
    return decode_both(data, limits)[0]


def decode_both(data: bytes | Path, limits: PictureLimits) -> tuple[Image.Image, Image.Image | None]:
    """Decode a picture to an upright "RGB" picture in sRGB, 8 bits a channel, and its opacity ("L") if it has any.

    Deliberate choices: transparency is laid over white, since the model has no alpha; of an animation the first frame
    is used; 16-bit gray is rounded to 8 bits; an ICC profile that cannot be used is ignored and
    ``info[PROFILE_IGNORED]`` is then True. ``info`` holds nothing else. Pillow may warn about damaged metadata.

    Raises UnsupportedPicture, PictureTooLarge (from the header, before memory is spent) and PictureUnreadable for a
    truncated or corrupt file; OSError where the path cannot be opened.
    """
    picture, header = _load(data, limits)
    profile = picture.info.get("icc_profile")
    colour, alpha = split_alpha(picture)
    # Each of these may be 256 MB, and a decoder's own canvas more.
    del picture
    rgb, respected = to_srgb(colour, profile)
    del colour
    if alpha is not None:
        paper = Image.new("RGB", rgb.size, "white")
        paper.paste(rgb, None, alpha)
        rgb = paper
    upright = _upright(rgb, header)
    upright.info = {} if respected else {PROFILE_IGNORED: True}
    if alpha is None:
        return upright, None
    opacity = _upright(alpha, header)
    opacity.info = {}
    return upright, opacity


def decode_mask(data: bytes | Path, limits: PictureLimits, mode: MaskMode = "auto") -> tuple[Image.Image, Guess]:
    """Decode a mask to an upright "L" picture: 255 is edited, 0 is kept, and what lies between is blended.

    ``white``: by brightness, and what is transparent is kept. ``transparent`` and ``opaque``: by the opacity alone.
    ``auto`` reads a mask without transparency as ``white``, one of a single visible colour as ``opaque``, and one of
    several as ``transparent``, unless they are greys. Also returns what it had to guess. Raises as ``decode`` does.
    """
    picture, header = _load(data, limits)
    colour, alpha = split_alpha(picture)
    del picture
    guess: Guess = ""
    if mode == "auto":
        mode, guess = mask_meaning(colour, alpha)
    if mode == "white":
        mask = colour if colour.mode == "L" else colour.convert("L")
        if alpha is not None:
            mask = Image.composite(mask, Image.new("L", mask.size), alpha)
    else:
        opacity = alpha if alpha is not None else Image.new("L", colour.size, 255)
        mask = opacity if mode == "opaque" else ImageChops.invert(opacity)
    upright = _upright(mask, header)
    upright.info = {}
    return upright, guess


def _load(data: bytes | Path, limits: PictureLimits) -> tuple[Image.Image, PictureHeader]:
    """The picture with its pixels decoded; whatever a decoder raises on bad data becomes a PictureError."""
    file: BinaryIO
    with data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as file:
        header = read_header(file, limits)
        file.seek(0)
        load_decoder(header.format)
        try:
            picture = Image.open(file, formats=[header.format])
            turned = header.format in TURNED_BY_DECODER
            if picture.size == (header.displayed_size if turned else (header.width, header.height)):
                picture.load()
                return picture, replace(header, orientation=1) if turned else header
        except _BOMB_ERRORS as error:
            raise PictureTooLarge(f"The picture has too many pixels: {error}", "Scale it down first.") from error
        except _DECODER_ERRORS as error:
            raise _unreadable(header) from error
        raise _unreadable(header)


def _unreadable(header: PictureHeader) -> PictureUnreadable:
    return PictureUnreadable(
        f"The {header.format.upper()} picture of {header.width} x {header.height} pixels is truncated or corrupt.",
        "Copy or export the picture again.",
    )


def _upright(picture: Image.Image, header: PictureHeader) -> Image.Image:
    turn = _TURNS.get(header.orientation)
    return picture if turn is None else picture.transpose(turn)
