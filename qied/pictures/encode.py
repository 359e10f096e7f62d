"""Encoding results, with how they were made inside, and small previews."""

from __future__ import annotations

import io
import zlib
from typing import Final

from PIL import Image

from qied.edit import OutputFormat
from qied.pictures.metadata import OutputMetadata, exif_block, png_chunks

# Measured at 1024 x 1024 on photograph-like pictures: matching runs only gives files 3 to 11 % smaller than level 6's
# full search in a fifth to two fifths of its time, as little repeats exactly behind PNG's filters. Only drawn text and
# tiled texture come out larger (4 and 13 times), which no decoder of latents makes.
_PNG_LEVEL: Final = 1
_PNG_STRATEGY: Final = zlib.Z_RLE
# Method 0 is fast but makes files larger than the PNG; more effort than this costs more time than it saves bytes.
_WEBP_METHOD: Final = 1
_WEBP_EFFORT: Final = 0

PREVIEW_MAX_BYTES: Final = 64 * 1024
_PREVIEW_MAX_SIDE: Final = 512
_PREVIEW_QUALITIES: Final = (85, 70, 50)


def encode(image: Image.Image, output_format: OutputFormat, metadata: OutputMetadata) -> bytes:
    """Encode an sRGB picture without loss as PNG or WebP that carries ``metadata``.

    The same pixels and metadata give the same bytes. What ``image.info`` holds is not written.
    """
    picture = image.convert("RGB") if image.mode != "RGB" else image.copy()
    picture.info = {}
    target = io.BytesIO()
    if output_format == "png":
        picture.save(
            target, "PNG", compress_level=_PNG_LEVEL, compress_type=_PNG_STRATEGY, pnginfo=png_chunks(metadata)
        )
    else:
        picture.save(
            target,
            "WEBP",
            lossless=True,
            method=_WEBP_METHOD,
            quality=_WEBP_EFFORT,
            exif=exif_block(metadata),
        )
    return target.getvalue()


def encode_preview(image: Image.Image) -> bytes:
    """Encode a small JPEG of at most 64 KiB: at most 512 pixels a side, smaller or coarser where that is too large."""
    picture = image.convert("RGB")
    picture.info = {}
    side = min(_PREVIEW_MAX_SIDE, max(picture.size))
    while True:
        small = picture.copy()
        small.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=None)
        for quality in _PREVIEW_QUALITIES:
            target = io.BytesIO()
            small.save(target, "JPEG", quality=quality, subsampling=0)
            if target.tell() <= PREVIEW_MAX_BYTES:
                return target.getvalue()
        side //= 2
