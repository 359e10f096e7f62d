"""Previews: a linear map from latents to colours, fitted to the VAE at load, and small pictures made with it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from qied.engine.vae.vae import Vae

MAX_SIDE = 256
"""A preview's longer side has at most this many pixels."""

_PICTURES = 4
_SIDE = 128
_RECTANGLES = 12


@dataclass(frozen=True)
class PreviewMap:
    """Colours of a latent cell: ``weight`` FP32 [C, 3] and ``bias`` FP32 [3], for colours from 0 to 1."""

    weight: Tensor
    bias: Tensor

    def picture(self, latents: Tensor) -> Image.Image:
        """Return the RGB picture of normalised latents [1, C, rows, columns], one pixel a cell, capped in size."""
        cells = latents[0].float().permute(1, 2, 0)
        colours = (cells @ self.weight + self.bias).nan_to_num().clamp(0, 1)
        picture = Image.fromarray(colours.mul(255).round().to(torch.uint8).cpu().numpy())
        picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BOX)
        return picture


def fit_preview(vae: Vae) -> PreviewMap:
    """Fit the map by least squares to pictures that this VAE encodes; the same VAE gives the same map."""
    generator = torch.Generator("cpu").manual_seed(0)
    inputs, colours = [], []
    for _ in range(_PICTURES):
        picture = _synthetic_picture(generator)
        latents = vae.encode_pixels(2 * picture - 1)
        inputs.append(latents[0].flatten(1).T.double().cpu())
        colours.append(functional.avg_pool2d(picture, vae.cell)[0].flatten(1).T.double())
    cells = torch.cat(inputs)
    design = torch.cat([cells, torch.ones(len(cells), 1, dtype=torch.float64)], dim=1)
    solution = torch.linalg.lstsq(design, torch.cat(colours)).solution.float().to(vae.device)
    return PreviewMap(solution[:-1], solution[-1])


def _synthetic_picture(generator: torch.Generator) -> Tensor:
    """Draw flat and shaded rectangles over a smooth ground: FP32 [1, 3, side, side] from 0 to 1."""
    ground = torch.rand((1, 3, 3, 3), generator=generator)
    picture = functional.interpolate(ground, size=(_SIDE, _SIDE), mode="bilinear", align_corners=True)
    for _ in range(_RECTANGLES):
        left, top = torch.randint(0, _SIDE - 16, (2,), generator=generator).tolist()
        width, height = torch.randint(12, 56, (2,), generator=generator).tolist()
        colour = torch.rand((1, 3, 1, 1), generator=generator)
        picture[:, :, top : top + height, left : left + width] = colour
    return picture
