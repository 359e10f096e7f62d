"""Colour: embedded ICC profiles converted to sRGB, and what to do where there is none."""

from __future__ import annotations

import io
from functools import cache
from typing import Final

from PIL import Image, ImageCms

_MODE_OF_SPACE: Final = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def to_srgb(picture: Image.Image, profile: bytes | None) -> tuple[Image.Image, bool]:
    """Return an "L", "RGB" or "CMYK" picture as sRGB "RGB", and whether its ICC profile was respected.

    Conversion is relative colorimetric with black point compensation, so that colours inside sRGB keep their look.
    Without a profile gray and RGB count as sRGB and CMYK is multiplied out; the same happens, and False is returned,
    where the profile is broken or of another kind of colour.
    """
    if not profile:
        return (picture if picture.mode == "RGB" else picture.convert("RGB")), True
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODE_OF_SPACE[source.profile.xcolor_space]
        if mode == "L" and picture.mode == "RGB":
            picture = picture.convert("L")
        if picture.mode == "L" and mode == "RGB":
            picture = picture.convert("RGB")
        if picture.mode != mode:
            return picture.convert("RGB"), False
        transform = ImageCms.buildTransform(
            source,
            _srgb(),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        return transform.apply(picture), True
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError):
        return picture.convert("RGB"), False


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
