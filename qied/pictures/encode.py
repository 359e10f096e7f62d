"""Encoding results, with how they were made inside, and small previews."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image
from qied_client.picture_file.contents import JPEG_EXIF_BYTES, Contents
from qied_client.picture_metadata import PictureMetadata

from qied.edit import OutputFormat
from qied.pictures.metadata import contents_for
from qied.pictures.png import encode_png

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


def encode(
    image: Image.Image, output_format: OutputFormat, metadata: PictureMetadata, quality: int = 100, xmp: bytes = b""
) -> bytes:
    """Encode an sRGB picture as a file that carries ``metadata``: PNG and WebP of quality 100 without loss.

    ``quality``, 1 to 100, is that of JPEG and of other WebP. ``xmp`` is a packet of marks. An "RGBA" picture keeps its
    opacity in PNG and WebP; in a JPEG it lies over white. A JPEG has room for 64 KB of Exif: of long prompts it
    leaves out ComfyUI's graph, then A1111's text, and at last qied's own.

    The same pixels and metadata give the same bytes. What ``image.info`` holds is not written.
    """
    picture = _plain(image, opacity=output_format != "jpeg")
    contents = contents_for(metadata, xmp)
    if output_format == "png":
        return encode_png(picture, contents.png_chunks())
    target = io.BytesIO()
    marks = {"xmp": xmp} if xmp else {}
    if output_format == "jpeg":
        subsampling = 0 if quality > _FULL_COLOUR_ABOVE else 2
        exif = _exif_of_jpeg(contents)
        picture.save(target, "JPEG", quality=quality, subsampling=subsampling, exif=exif, **marks)
    else:
        lossless = quality == 100
        picture.save(
            target,
            "WEBP",
            lossless=lossless,
            method=_WEBP_METHOD,
            quality=_WEBP_EFFORT if lossless else quality,
            exif=contents.exif(),
            **marks,
        )
    return target.getvalue()


def _plain(image: Image.Image, *, opacity: bool) -> Image.Image:
    """The picture as "RGB", or "RGBA" where it has opacity that is kept, and nothing but its pixels."""
    if image.mode != "RGBA":
        picture = image.convert("RGB") if image.mode != "RGB" else image.copy()
    elif opacity:
        picture = image.copy()
    else:
        picture = Image.new("RGB", image.size, "white")
        picture.paste(image, None, image)
    picture.info = {}
    return picture


def _exif_of_jpeg(contents: Contents) -> bytes:
    """What fits into a JPEG; a result is not lost for a description that is too long."""
    try:
        return contents.exif(JPEG_EXIF_BYTES)
    except ValueError:
        return b""


def encode_preview(image: Image.Image, xmp: bytes = b"") -> bytes:
    """Encode a small JPEG of at most 64 KiB: at most 512 pixels a side, smaller or coarser where that is too large.

    ``xmp`` is a packet of marks.
    """
    return _small_jpeg(image, _PREVIEW_MAX_SIDE, PREVIEW_MAX_BYTES, Image.Resampling.BOX, xmp)


def encode_thumbnail(image: Image.Image, xmp: bytes = b"") -> bytes:
    """Encode an sRGB picture as a JPEG of at most 24 KiB: at most 256 pixels a side, never enlarged.

    ``xmp`` is a packet of marks.
    """
    return _small_jpeg(image, _THUMBNAIL_MAX_SIDE, THUMBNAIL_MAX_BYTES, Image.Resampling.LANCZOS, xmp)


def _small_jpeg(image: Image.Image, max_side: int, max_bytes: int, resampling: Image.Resampling, xmp: bytes) -> bytes:
    """A JPEG within both limits, smaller or coarser where that is too large."""
    picture = _plain(image, opacity=False)
    marks = {"xmp": xmp} if xmp else {}
    side = min(max_side, max(picture.size))
    while True:
        small = picture.copy()
        small.thumbnail((side, side), resampling, reducing_gap=None)
        for quality in _QUALITIES:
            target = io.BytesIO()
            small.save(target, "JPEG", quality=quality, subsampling=0, **marks)
            if target.tell() <= max_bytes:
                return target.getvalue()
        side //= 2
