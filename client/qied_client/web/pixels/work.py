"""What is done with pixels for callers: previews, channels, other formats. It runs in the child process alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from qied_client.errors import InvalidRequest, PictureUnreadable
from qied_client.picture_header import PictureLimits, read_header
from qied_client.pixels.converted import Format, converted
from qied_client.pixels.plugins import is_decodable, load_plugin
from qied_client.workflows.files import MaskFile, PictureFile, made

if TYPE_CHECKING:
    from PIL.Image import Image


def _previewed(data: bytes, *, kind: str, quality: int, rgb: bool) -> bytes:
    """A picture as WebP or JPEG of this quality, perhaps without its opacity."""
    image = _opened(data)
    if kind == "jpeg" or rgb:
        image = image.convert("RGB")
    return _encoded(image, kind, quality)


def _channel(data: bytes, *, channel: str) -> bytes:
    """Colours without opacity, or the opacity of a picture that is black otherwise, as PNG."""
    from PIL import Image

    image = _opened(data)
    if channel == "rgb":
        return _encoded(image.convert("RGBA").convert("RGB"), "png")
    opacity = Image.new("RGBA", image.size)
    opacity.putalpha(image.convert("RGBA").getchannel("A"))
    return _encoded(opacity, "png")


def _with_opacity_of(original: bytes, mask: bytes) -> bytes:
    """A picture with the opacity of another one, as PNG; raises InvalidRequest where their sizes differ."""
    picture, opacity = _opened(original).convert("RGBA"), _opened(mask).convert("RGBA").getchannel("A")
    if opacity.size != picture.size:
        raise InvalidRequest(
            f"The mask has {opacity.size[0]} x {opacity.size[1]} pixels, and the picture {picture.size[0]} x "
            f"{picture.size[1]}.",
            "Make them equal.",
            field="mask",
        )
    picture.putalpha(opacity)
    return _encoded(picture, "png")


def _converted(data: bytes, *, to: Format) -> bytes:
    return converted(data, to)


def _made_picture(data: bytes, *, crop: list[int] | None, scaled: list[int] | None, **fields: Any) -> bytes:
    left, top, width, height = crop or (0, 0, 0, 0)
    across, down = scaled or (0, 0)
    parts = (left, top, width, height) if crop else None, (across, down) if scaled else None
    return made(data, PictureFile(**fields, crop=parts[0], scaled=parts[1]))


def _made_mask(data: bytes, **fields: Any) -> bytes:
    return made(data, MaskFile(**fields))


WORKS: Final[Mapping[str, Callable[..., bytes]]] = {
    "preview": _previewed,
    "channel": _channel,
    "opacity": _with_opacity_of,
    "convert": _converted,
    "picture": _made_picture,
    "mask": _made_mask,
}
"""By name: files in, one file out. They raise PictureError and its kinds, and InvalidRequest."""


def _opened(data: bytes) -> Image:
    from PIL import Image, ImageOps

    kind = read_header(BytesIO(data), PictureLimits()).format
    if is_decodable(kind):
        load_plugin(kind)
    try:
        with Image.open(BytesIO(data), formats=[kind]) as image:
            return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, KeyError, Image.DecompressionBombError) as error:
        raise PictureUnreadable("The picture cannot be decoded.", str(error)[:200]) from error


def _encoded(image: Image, kind: str, quality: int = 90) -> bytes:
    buffer = BytesIO()
    try:
        if kind == "png":
            image.save(buffer, "PNG", compress_level=4)
        else:
            image.save(buffer, kind.upper(), quality=quality)
    except (OSError, ValueError) as error:  # such as a side that the format does not have
        raise InvalidRequest(f"The picture cannot be saved as {kind}: {error}.", "Ask for it as it is.") from error
    return buffer.getvalue()
