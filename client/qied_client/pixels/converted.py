"""Pictures in another format than they came in, with how qied made them still inside."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any, Literal

from PIL import Image, ImageOps, PngImagePlugin

from qied_client.errors import InvalidRequest, UnsupportedPicture
from qied_client.picture_file.contents import JPEG_EXIF_BYTES, Contents, contents_of
from qied_client.picture_file.marks import read_marks, xmp_packet
from qied_client.picture_header import FORMAT_NAMES, PictureLimits, read_header
from qied_client.pixels.colour import to_srgb
from qied_client.pixels.plugins import TURNED_BY_DECODER, is_decodable, load_plugin

Format = Literal["PNG", "WEBP", "JPEG"]


def converted(data: bytes, to: Format, quality: int | None = None) -> bytes:
    """A picture file in another format; how qied made it goes along, and so do marks of AI.

    The result is upright sRGB, as the daemon's are; transparency becomes white in a JPEG. PNG and WebP lose nothing.
    With ``quality`` (1 to 100) WebP is lossy as well; a JPEG without it has 95. A JPEG keeps the resolution of colour
    (4:4:4). Raises PictureError for a file that is not a picture or cannot be decoded here, and InvalidRequest where
    Pillow cannot read or write it.
    """
    kind = read_header(io.BytesIO(data), PictureLimits()).format
    if not is_decodable(kind):
        raise UnsupportedPicture(
            f"{FORMAT_NAMES[kind]} pictures cannot be decoded here.", "Convert the picture to PNG or JPEG first."
        )
    load_plugin(kind)
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as opened:
            # A PNG's text may stand behind its pixels.
            opened.load()
            contents = replace(contents_of(opened), xmp=xmp_packet(read_marks(data)))
            upright = opened if kind in TURNED_BY_DECODER else ImageOps.exif_transpose(opened)
            picture = _srgb(upright, keep_alpha=to != "JPEG")
        target = io.BytesIO()
        picture.save(target, to, **_settings(to, quality, contents))
    except (OSError, ValueError, SyntaxError) as error:
        raise InvalidRequest(
            f"The picture cannot be converted to {to}: {error}.", "Save it in the format that it has."
        ) from error
    return target.getvalue()


def _srgb(picture: Image.Image, *, keep_alpha: bool) -> Image.Image:
    """Results are that already, but the first picture of a session is as somebody uploaded it."""
    alpha = picture.convert("RGBA").getchannel("A") if picture.has_transparency_data else None
    colour = picture if picture.mode in ("L", "RGB", "CMYK") and alpha is None else picture.convert("RGB")
    rgb, _ = to_srgb(colour, picture.info.get("icc_profile"))
    result = rgb.copy()
    result.info = {}
    if alpha is not None and keep_alpha:
        result.putalpha(alpha)
    elif alpha is not None:
        paper = Image.new("RGB", result.size, "white")
        paper.paste(result, None, alpha)
        return paper
    return result


def _settings(to: Format, quality: int | None, contents: Contents) -> dict[str, Any]:
    if to == "PNG":
        chunks = PngImagePlugin.PngInfo()
        for kind, data in contents.png_chunks():
            chunks.add(kind, data)
        return {"pnginfo": chunks}
    settings: dict[str, Any] = {"exif": contents.exif(JPEG_EXIF_BYTES if to == "JPEG" else None)}
    if contents.xmp:
        settings["xmp"] = contents.xmp
    if to == "JPEG":
        return {**settings, "quality": 95 if quality is None else quality, "subsampling": "4:4:4"}
    return {**settings, "lossless": True} if quality is None else {**settings, "quality": quality}
