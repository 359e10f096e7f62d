"""Masked edits: white is edited, black stays; in latents at every step, and to the pixel at the end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from qied.engine.edits.denoise import pack
from qied.pictures.mask import WHITE

FEATHER = 4
"""Half of the soft rim outside the mask, in pixels: the rim is one latent cell wide."""


def black_and_white(mask: Image.Image) -> Image.Image:
    """Make a mask ("L") black and white; grey from 128 up counts as white."""
    return mask.point([0] * WHITE + [255] * (256 - WHITE))


def editable_tokens(mask: Image.Image, channels: int, cell: int) -> Tensor:
    """Return bool [1, tokens, channels * 4]: true where a latent cell of ``cell`` pixels holds any white pixel."""
    white = np.asarray(mask) > 0
    rows, columns = white.shape[0] // cell, white.shape[1] // cell
    cells = torch.from_numpy(white.reshape(rows, cell, columns, cell).any(axis=(1, 3)))
    return pack(cells.expand(1, channels, rows, columns))


@dataclass(frozen=True)
class KeptSource:
    """What stays outside the mask: FP32 tokens [1, tokens, C * 4] of source and noise, and where edits are allowed."""

    source: Tensor
    noise: Tensor
    editable: Tensor

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """All that a masked edit holds besides its latents."""
        return self.source, self.noise, self.editable

    def restore(self, latents: Tensor, sigma: Tensor) -> Tensor:
        """Put the source, noised to ``sigma`` with the edit's own noise, where nothing may be edited."""
        return torch.where(self.editable, latents, (1 - sigma) * self.source + sigma * self.noise)


def composite(result: Image.Image, source: Image.Image, mask: Image.Image) -> Image.Image:
    """Lay the result over the source through the mask, softened outwards.

    Every pixel inside the mask is the result's and every pixel more than two feathers outside is the source's, exactly.
    """
    grown = mask.filter(ImageFilter.MaxFilter(2 * FEATHER + 1))
    return Image.composite(result, source, grown.filter(ImageFilter.BoxBlur(FEATHER)))
