"""Sizes as ComfyUI computes them: of pictures for the vision encoder and the VAE, and of results. Pure.

Formulas are those of its nodes TextEncodeQwenImageEditPlus and FluxKontextImageScale, of ``common_upscale`` with the
crop "center", and of ``process_qwen2vl_images`` (version 0.33). All sizes are (width, height) in pixels.
"""

from __future__ import annotations

import math
from typing import Final

Size = tuple[int, int]
KONTEXT_SIZES: Final[tuple[Size, ...]] = (
    *((672, 1568), (688, 1504), (720, 1456), (752, 1392), (800, 1328), (832, 1248), (880, 1184), (944, 1104)),
    (1024, 1024),
    *((1104, 944), (1184, 880), (1248, 832), (1328, 800), (1392, 752), (1456, 720), (1504, 688), (1568, 672)),
)
"""The sizes that FluxKontextImageScale chooses from."""
_KONTEXT_PIXELS: Final = 1024 * 1024
REFERENCE_MULTIPLE: Final = 8
"""Sides of references are multiples of a latent cell, so that the last token of a row may hold half of another."""
_PATCH: Final = 28
"""Pixels along a token of the vision tower."""
_VISION_PIXELS: Final = (3136, 12845056)
"""Least and most pixels that the vision tower is given."""


def area_size(area: int, size: Size, multiple: int = 1) -> Size:
    """A size of about ``area`` pixels at the aspect of ``size``, each side rounded by itself, half to even."""
    width, height = size
    scale = math.sqrt(area / (width * height))
    return _rounded(width * scale, multiple), _rounded(height * scale, multiple)


def kontext_size(size: Size, area: int = _KONTEXT_PIXELS, multiple: int = 1) -> Size:
    """The size whose aspect (width by height) differs least from that of ``size``; the narrower of two that do.

    For a model of another ``area`` than a megapixel its sides are as much shorter or longer, and rounded.
    """
    aspect = size[0] / size[1]
    _, width, height = min((abs(aspect - width / height), width, height) for width, height in KONTEXT_SIZES)
    if area == _KONTEXT_PIXELS:
        return width, height
    scale = math.sqrt(area / _KONTEXT_PIXELS)
    return _rounded(width * scale, multiple), _rounded(height * scale, multiple)


def centre_crop(size: Size, target: Size) -> tuple[int, int, int, int]:
    """What is kept of a picture, cropped evenly to the aspect of ``target``: left, top, right and bottom."""
    width, height = size
    own, wanted = width / height, target[0] / target[1]
    left = top = 0
    if own > wanted:
        left = round((width - width * (wanted / own)) / 2)
    elif own < wanted:
        top = round((height - height * (own / wanted)) / 2)
    return left, top, width - left, height - top


def vision_grid(size: Size) -> Size:
    """The size to which the vision tower's processor brings a picture: multiples of a token's 28 pixels."""
    width, height = size
    least, most = _VISION_PIXELS
    across, down = round(width / _PATCH) * _PATCH, round(height / _PATCH) * _PATCH
    if across * down > most:
        shrunk = math.sqrt(width * height / most)
        return _floored(width / shrunk), _floored(height / shrunk)
    if across * down < least:
        grown = math.sqrt(least / (width * height))
        return math.ceil(width * grown / _PATCH) * _PATCH, math.ceil(height * grown / _PATCH) * _PATCH
    return across, down


def _rounded(side: float, multiple: int) -> int:
    return max(multiple, round(side / multiple) * multiple)


def _floored(side: float) -> int:
    return max(_PATCH, math.floor(side / _PATCH) * _PATCH)
