"""Encoding results, with how they were made inside, and small previews."""

from __future__ import annotations

import io
import zlib
from typing import Final

from PIL import Image
from qied_client.picture_metadata import PictureMetadata

from qied.edit import OutputFormat
from qied.pictures.metadata import exif_block, png_chunks

# Measured at 1024 x 1024 on photograph-like pictures: matching runs only gives files 3 to 11 % smaller than level 6's
# full search in a fifth to two fifths of its time, as little repeats exactly behind PNG's filters. Only drawn text and
# tiled texture come out larger (4 and 13 times), which no decoder of latents makes.
_PNG_LEVEL: Final = 1
_PNG_STRATEGY: Final = zlib.Z_RLE
# Method 0 is fast but makes files larger than the PNG; more effort than this costs more time than it saves bytes.
_WEBP_METHOD: Final = 1
_WEBP_EFFORT: Final = 0
_FULL_COLOUR_ABOVE: Final = 90
"""Quality above which a JPEG keeps colour at full resolution: red text on a drawing shows the difference."""

PREVIEW_MAX_BYTES: Final = 64 * 1024
_PREVIEW_MAX_SIDE: Final = 512
THUMBNAIL_MAX_BYTES: Final = 24 * 1024
_THUMBNAIL_MAX_SIDE: Final = 256
_QUALITIES: Final = (85, 70, 50)


def encode(image: Image.Image, output_format: OutputFormat, metadata: PictureMetadata, quality: int = 100) -> bytes:
    """Encode an sRGB picture as a file that carries ``metadata``: PNG and WebP of quality 100 without loss.

    ``quality``, 1 to 100, is that of JPEG and of other WebP.

    The same pixels and metadata give the same bytes. What ``image.info`` holds is not written.
    """
    picture = image.convert("RGB") if image.mode != "RGB" else image.copy()
    picture.info = {}
    target = io.BytesIO()
    if output_format == "png":
        picture.save(
            target, "PNG", compress_level=_PNG_LEVEL, compress_type=_PNG_STRATEGY, pnginfo=png_chunks(metadata)
        )
    elif output_format == "jpeg":
        subsampling = 0 if quality > _FULL_COLOUR_ABOVE else 2
        picture.save(target, "JPEG", quality=quality, subsampling=subsampling, exif=exif_block(metadata))
    else:
        lossless = quality == 100
        picture.save(
            target,
            "WEBP",
            lossless=lossless,
            method=_WEBP_METHOD,
            quality=_WEBP_EFFORT if lossless else quality,
            exif=exif_block(metadata),
        )
    return target.getvalue()


def encode_preview(image: Image.Image) -> bytes:
    """Encode a small JPEG of at most 64 KiB: at most 512 pixels a side, smaller or coarser where that is too large."""
    return _small_jpeg(image, _PREVIEW_MAX_SIDE, PREVIEW_MAX_BYTES, Image.Resampling.BOX)


def encode_thumbnail(image: Image.Image) -> bytes:
    """Encode an sRGB picture as a JPEG of at most 24 KiB: at most 256 pixels a side, never enlarged."""
    return _small_jpeg(image, _THUMBNAIL_MAX_SIDE, THUMBNAIL_MAX_BYTES, Image.Resampling.LANCZOS)


def _small_jpeg(image: Image.Image, max_side: int, max_bytes: int, resampling: Image.Resampling) -> bytes:
    """A JPEG within both limits, smaller or coarser where that is too large."""
    picture = image.convert("RGB")
    picture.info = {}
    side = min(max_side, max(picture.size))
    while True:
        small = picture.copy()
        small.thumbnail((side, side), resampling, reducing_gap=None)
        for quality in _QUALITIES:
            target = io.BytesIO()
            small.save(target, "JPEG", quality=quality, subsampling=0)
            if target.tell() <= max_bytes:
                return target.getvalue()
        side //= 2
