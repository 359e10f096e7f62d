"""Pictures in another format than they came in, with how qied made them still inside."""

from __future__ import annotations

import io
from typing import Any, Final, Literal

from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from qied_client.errors import InvalidRequest, UnsupportedPicture
from qied_client.picture_header import FORMAT_NAMES, PictureLimits, read_header
from qied_client.pixels.colour import to_srgb
from qied_client.pixels.plugins import TURNED_BY_DECODER, is_decodable, load_plugin

Format = Literal["PNG", "WEBP", "JPEG"]

# As the daemon writes them: qied.pictures.metadata.
_TEXT_KEY: Final = "parameters"
_JSON_KEY: Final = "qied"
_JSON_PREFIX: Final = "qied:"
_UTF16: Final = b"UNICODE\0"
_SRGB_PERCEPTUAL: Final = b"\0"


def converted(data: bytes, to: Format, quality: int | None = None) -> bytes:
    """A picture file in another format; how qied made it goes along, as text chunks or Exif.

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
            text, json = _described(opened)
            upright = opened if kind in TURNED_BY_DECODER else ImageOps.exif_transpose(opened)
            picture = _srgb(upright, keep_alpha=to != "JPEG")
        target = io.BytesIO()
        picture.save(target, to, **_settings(to, quality, text, json))
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


def _settings(to: Format, quality: int | None, text: str | None, json: str | None) -> dict[str, Any]:
    if to == "PNG":
        return {"pnginfo": _png_chunks(text, json)}
    exif = _exif_block(text, json)
    if to == "JPEG":
        return {"quality": 95 if quality is None else quality, "subsampling": "4:4:4", "exif": exif}
    return {"lossless": True, "exif": exif} if quality is None else {"quality": quality, "exif": exif}


def _described(picture: Image.Image) -> tuple[str | None, str | None]:
    """What the daemon wrote into a picture: readable text, and JSON."""
    text, json = picture.info.get(_TEXT_KEY), picture.info.get(_JSON_KEY)
    if isinstance(text, str) or isinstance(json, str):
        return (str(text) if isinstance(text, str) else None), (str(json) if isinstance(json, str) else None)
    exif = picture.getexif() if "exif" in picture.info else Image.Exif()
    description = exif.get(ExifTags.Base.ImageDescription)
    comment = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    text = json = None
    if isinstance(description, str) and description.startswith(_JSON_PREFIX):
        json = description.removeprefix(_JSON_PREFIX)
    if isinstance(comment, bytes) and comment.startswith(_UTF16):
        text = comment.removeprefix(_UTF16).decode("utf-16-be", "replace")
    return text, json


def _png_chunks(text: str | None, json: str | None) -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"sRGB", _SRGB_PERCEPTUAL)
    for key, value in ((_TEXT_KEY, text), (_JSON_KEY, json)):
        if value is not None:
            chunks.add_itxt(key, value)
    return chunks


def _exif_block(text: str | None, json: str | None) -> bytes:
    exif = Image.Exif()
    if json is not None:
        exif[ExifTags.Base.ImageDescription] = _JSON_PREFIX + json
    if text is not None:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _UTF16 + text.encode("utf-16-be", "replace")
    return exif.tobytes()
