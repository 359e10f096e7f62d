"""Previews: small pictures of latents, by a tiny autoencoder where there is one that fits, else by a linear map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from qied.engine.device_errors import is_exhausted
from qied.engine.vae.tiny_decoder import TinyDecoder, load_tiny_decoder
from qied.engine.vae.vae import Vae
from qied.weights.problems import BadFile

MAX_SIDE = 256
"""A preview's longer side has at most this many pixels."""
MAX_DECODED_SIDE = 512
"""The same of one that a tiny autoencoder decoded: what is sent has at most this many (``pictures.encode``)."""
LEAST_EXPLAINED = 0.5
"""Share of the variance of colours that a decoder has to get right: one for other latents gets none of it."""

_PICTURES = 4
_SIDE = 128
_RECTANGLES = 12


class Previews(Protocol):
    """Makes small pictures of latents."""

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""

    def picture(self, latents: Tensor) -> Image.Image:
        """Return an RGB picture of normalised latents [1, C, rows, columns]."""


@dataclass(frozen=True)
class PreviewMap:
    """Colours of a latent cell: ``weight`` FP32 [C, 3] and ``bias`` FP32 [3], for colours from 0 to 1."""

    weight: Tensor
    bias: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes on the device: so few that no plan has a part for them."""
        return 0

    def picture(self, latents: Tensor) -> Image.Image:
        """Return the RGB picture of normalised latents [1, C, rows, columns], one pixel a cell, capped in size."""
        cells = latents[0].float().permute(1, 2, 0)
        return _picture(cells @ self.weight + self.bias, MAX_SIDE)


class DecodedPreviews:
    """Pictures that a tiny autoencoder decodes; where memory does not suffice for that, the linear map's."""

    def __init__(self, decoder: TinyDecoder, otherwise: PreviewMap) -> None:
        self._decoder: TinyDecoder | None = decoder
        self._otherwise = otherwise

    @property
    def nbytes(self) -> int:
        """Bytes of the decoder's weights."""
        return 0 if self._decoder is None else self._decoder.nbytes

    def picture(self, latents: Tensor) -> Image.Image:
        """Return the RGB picture of normalised latents [1, C, rows, columns], capped in size."""
        if self._decoder is not None:
            try:
                return self._decoded(self._decoder, latents)
            except RuntimeError as error:
                if not is_exhausted(error):
                    raise
                # A preview is not worth an edit.
                _tell("memory ran out", error)
                self._decoder = None
        return self._otherwise.picture(latents)

    def _decoded(self, decoder: TinyDecoder, latents: Tensor) -> Image.Image:
        colours = decoder.decode(latents)
        shrunk = max(1, max(colours.shape[1:]) // MAX_DECODED_SIDE)
        return _picture(functional.avg_pool2d(colours, shrunk).permute(1, 2, 0), MAX_DECODED_SIDE)


def previews_of(vae: Vae, tiny_autoencoder: Path | None) -> Previews:
    """The previews of a model: by the tiny autoencoder in a file, if it can be read and is for this VAE's latents.

    Whether it is, shows what it makes of pictures that the VAE encoded. Where it is not to be used, that is logged.
    """
    samples = _samples(vae)
    fitted = fit_preview(vae, samples)
    if tiny_autoencoder is None:
        return fitted
    try:
        decoder = load_tiny_decoder(tiny_autoencoder, vae.channels, vae.device, vae.dtype, vae.decode_tile_px)
        explained = _explained(decoder, samples)
    except (BadFile, OSError, RuntimeError) as error:
        _tell(str(error), error, file=str(tiny_autoencoder))
        return fitted
    if not explained >= LEAST_EXPLAINED:
        _tell("it is for the latents of another model", None, file=str(tiny_autoencoder))
        return fitted
    return DecodedPreviews(decoder, fitted)


@dataclass(frozen=True)
class _Sample:
    """A picture FP32 [1, 3, side, side] from 0 to 1, and what the VAE makes of it."""

    picture: Tensor
    latents: Tensor


def _samples(vae: Vae) -> list[_Sample]:
    generator = torch.Generator("cpu").manual_seed(0)
    pictures = [_synthetic_picture(generator) for _ in range(_PICTURES)]
    return [_Sample(picture, vae.encode_pixels(2 * picture - 1)) for picture in pictures]


def fit_preview(vae: Vae, samples: Sequence[_Sample] | None = None) -> PreviewMap:
    """Fit the map by least squares to pictures that this VAE encodes; the same VAE gives the same map."""
    inputs, colours = [], []
    for sample in _samples(vae) if samples is None else samples:
        inputs.append(sample.latents[0].flatten(1).T.double().cpu())
        colours.append(functional.avg_pool2d(sample.picture, vae.cell)[0].flatten(1).T.double())
    cells = torch.cat(inputs)
    design = torch.cat([cells, torch.ones(len(cells), 1, dtype=torch.float64)], dim=1)
    solution = torch.linalg.lstsq(design, torch.cat(colours)).solution.float().to(vae.device)
    return PreviewMap(solution[:-1], solution[-1])


def _explained(decoder: TinyDecoder, samples: Sequence[_Sample]) -> float:
    """Share of the variance of the pictures' colours that a decoder gets right; NaN where it gives no numbers."""
    error = variance = 0.0
    for sample in samples:
        meant = sample.picture[0]
        made = decoder.decode(sample.latents).cpu().clamp(0, 1)
        error += float((made - meant).square().sum())
        variance += float((meant - meant.mean((1, 2), keepdim=True)).square().sum())
    return 1 - error / variance


def _picture(colours: Tensor, longest: int) -> Image.Image:
    """An RGB picture of colours [rows, columns, 3] from 0 to 1, made smaller until its longer side is ``longest``."""
    levels = colours.nan_to_num().clamp(0, 1).mul(255).round().to(torch.uint8)
    picture = Image.fromarray(levels.cpu().numpy())
    picture.thumbnail((longest, longest), Image.Resampling.BOX)
    return picture


def _tell(reason: str, error: Exception | None, **details: str) -> None:
    remedy = error.remedy if isinstance(error, BadFile) else "Name another file with model.tiny_autoencoder, or off."
    structlog.get_logger(part="previews").warning(
        "previews come from the linear map: the tiny autoencoder cannot be used",
        reason=reason,
        remedy=remedy,
        **details,
    )


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
