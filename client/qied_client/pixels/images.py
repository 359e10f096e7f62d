"""Pillow images as PNG files, in every mode that has an equivalent, and arrays by way of them."""

from __future__ import annotations

import io
from typing import Any, Final

from PIL import Image

from qied_client.errors import InvalidRequest
from qied_client.pixels.colour import to_srgb

_AS_THEY_ARE: Final = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_CONVERTED: Final = {"YCbCr": "RGB", "HSV": "RGB", "RGBX": "RGB", "RGBa": "RGBA", "La": "LA", "PA": "RGBA"}


def array_as_png(array: Any) -> bytes:
    """An array or tensor as a PNG file; see ``levels_of``. Raises InvalidRequest."""
    from qied_client.pixels.arrays import levels_of

    return _png(Image.fromarray(levels_of(array)))


def image_as_png(image: Image.Image) -> bytes:
    """A Pillow image as a PNG file, with its ICC profile; its Exif orientation is not looked at.

    CMYK becomes sRGB through the profile that it has, as the daemon does it for files. Mode F counts from 0 to 255, as
    Pillow converts it, and I from 0 to 65535, as Pillow saves it. Raises InvalidRequest for a mode without an
    equivalent, for values outside its range, and where Pillow cannot read the image.
    """
    if 0 in image.size:
        raise InvalidRequest(f"An image of {image.width} x {image.height} has no pixels.", "Give a picture.")
    try:
        image.load()
        return _png(_in_a_mode_of_png(image))
    except (OSError, ValueError, SyntaxError) as error:
        raise InvalidRequest(
            f"The image of mode {image.mode} cannot be written as PNG: {error}.", "Convert it to RGB or RGBA first."
        ) from error


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _in_a_mode_of_png(image: Image.Image) -> Image.Image:
    if image.mode in _AS_THEY_ARE:
        return image
    if image.mode == "CMYK":
        converted, _ = to_srgb(image, image.info.get("icc_profile"))
        converted.info.pop("icc_profile", None)
        return converted
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        return _with_numpy(image)
    if image.mode in _CONVERTED:
        return image.convert(_CONVERTED[image.mode])
    raise InvalidRequest(f"An image of mode {image.mode} has no equivalent in PNG.", "Convert it to RGB or RGBA first.")


def _with_numpy(image: Image.Image) -> Image.Image:
    import numpy as np

    from qied_client.pixels.arrays import from_mode_f, from_mode_i

    if image.mode == "F":
        return Image.fromarray(from_mode_f(np.asarray(image)))
    return Image.fromarray(from_mode_i(np.asarray(image.convert("I"))))
