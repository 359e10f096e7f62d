"""Pictures and masks of ComfyUI as PNG files, and results as its tensors, without a loss but rounding to 8 bits.

IMAGE is a float tensor [batch, height, width, 3 or 4] from 0 to 1, MASK one of [batch, height, width] or [height,
width], in which 1 is marked. The daemon works on 8-bit pixels, and n/255 comes back as the same n.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image
from qied_client.errors import InvalidRequest

_CHANNELS = (1, 3, 4)
_MARKED = 128
"""The level from which on the daemon counts a pixel as marked."""
_NO_MASK_PX = 64
"""Load Image gives a mask of zeros with this many pixels on a side for a picture that has no transparency."""


def pictures_of(image: torch.Tensor, name: str) -> list[bytes]:
    """Each picture of an IMAGE as a PNG file; ``name`` is the input, for errors. Raises InvalidRequest."""
    if image.ndim == 3:
        image = image[None]
    if image.ndim != 4 or image.shape[-1] not in _CHANNELS or 0 in image.shape:
        raise InvalidRequest(
            f"{name}: a tensor of shape {list(image.shape)} is not an IMAGE, which is [batch, height, width, 3 or 4].",
            "Connect an output of the type IMAGE.",
            field=name,
        )
    return [_png(_levels(each, name)) for each in image]


def masks_of(mask: torch.Tensor, name: str) -> list[bytes] | None:
    """Each mask of a MASK as a gray PNG file; None where it is what Load Image gives for a picture without one.

    Raises InvalidRequest for what is not a mask, or marks nothing.
    """
    if mask.ndim == 4 and 1 in (mask.shape[-1], mask.shape[1]):
        mask = mask[..., 0] if mask.shape[-1] == 1 else mask[:, 0]
    if mask.ndim == 2:
        mask = mask[None]
    if mask.ndim != 3 or 0 in mask.shape:
        raise InvalidRequest(
            f"{name}: a tensor of shape {list(mask.shape)} is not a MASK, which is [batch, height, width].",
            "Connect an output of the type MASK.",
            field=name,
        )
    if mask.shape[1:] == (_NO_MASK_PX, _NO_MASK_PX) and not mask.any():
        return None
    levels = [_levels(each[..., None], name) for each in mask]
    brightest = min(int(each.max()) for each in levels)
    if brightest < _MARKED:
        raise InvalidRequest(
            f"{name}: it marks nothing. Its largest value is {brightest / 255:.2f}, and from 0.5 on a pixel is marked.",
            "Paint where to edit (Open in MaskEditor, on Load Image), or disconnect the mask to edit everywhere.",
            field=name,
        )
    return [_png(each) for each in levels]


def thumbnail(file: bytes, most_px: int) -> Image.Image:
    """A picture with at most so many pixels on its longer side, for a node's face."""
    with Image.open(io.BytesIO(file)) as opened:
        opened.thumbnail((most_px, most_px))
        return opened.convert("RGB")


def image_of(files: list[bytes]) -> torch.Tensor:
    """Results, files of pictures, as one IMAGE: with four channels where any of them is transparent."""
    pictures = [Image.open(io.BytesIO(each)) for each in files]
    mode = "RGBA" if any(each.has_transparency_data for each in pictures) else "RGB"
    levels = np.stack([np.asarray(each.convert(mode)) for each in pictures])
    return torch.from_numpy(levels.astype(np.float32) / np.float32(255))


def _levels(picture: torch.Tensor, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Values from 0 to 1 as 8-bit levels [height, width, channels]; what is outside is clipped, as ComfyUI does."""
    values = picture.detach().cpu().to(torch.float32).numpy()
    if not np.isfinite(values).all():
        raise InvalidRequest(
            f"{name}: the picture has pixels that are not numbers (NaN or infinite), which would be black.",
            "See which node before this one makes them: often a VAE in 16 bits.",
            field=name,
        )
    return np.rint(values.clip(0, 1) * np.float32(255)).astype(np.uint8)


def _png(levels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(file, "PNG", compress_level=1)
    return file.getvalue()
