"""Thumbnails of pictures for which the daemon keeps none, with Pillow."""

from __future__ import annotations

import io

from qied_client.errors import PictureUnreadable, SetupError
from qied_client.picture_header import PictureLimits, read_header

_SIDE_PX = 256


def thumbnail_of(picture: bytes) -> bytes:
    """A JPEG of an encoded picture, upright and on white, whose longer side has at most 256 pixels.

    Raises SetupError if Pillow is missing, PictureError for a file that is not a picture, and PictureUnreadable for one
    that it cannot decode.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise SetupError(
            "This thumbnail is made from the picture, which needs Pillow.",
            "Install qied-client[pictures], or fetch the picture itself.",
        ) from None
    from qied_client.pixels.plugins import TURNED_BY_DECODER, is_decodable, load_plugin

    target = io.BytesIO()
    kind = read_header(io.BytesIO(picture), PictureLimits()).format
    if is_decodable(kind):
        load_plugin(kind)
    try:
        with Image.open(io.BytesIO(picture)) as image:
            if image.mode == "I;16":  # converted as it is, all but the darkest levels would be white
                small = image.convert("I").point([level >> 8 for level in range(65536)], "L")
            else:
                small = image.convert("RGBA" if image.has_transparency_data else "RGB")
            if kind not in TURNED_BY_DECODER:
                ImageOps.exif_transpose(small, in_place=True)
            small.thumbnail((_SIDE_PX, _SIDE_PX))
            if small.mode == "RGBA":
                small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small)
            small.convert("RGB").save(target, "JPEG")
    except (OSError, ValueError) as error:
        raise PictureUnreadable(f"The picture cannot be decoded: {error}.", "Fetch the picture itself.") from error
    return target.getvalue()
