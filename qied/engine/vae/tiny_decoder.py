"""The decoder of a tiny autoencoder (TAEHV's family): normalised latents of one frame to a picture.

Each of its residual blocks sees its frame and the one before, zeros before the first one. Of one frame of latents
the later stages make several, and the last of them is the picture: the others only lead up to it, so the last stage
makes no more than that one. It takes latents as the transformer has them, with nothing scaled or shifted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from qied.engine.vae.tiles import decoded_in_tiles
from qied.engine.weights.mapped_file import MappedFile
from qied.weights.header import read_header
from qied.weights.tiny_autoencoder import (
    BLOCKS,
    CELL,
    FIRST,
    GROWTHS,
    LAST,
    NARROWINGS,
    TinyDecoderShape,
    tiny_decoder_shape,
)

_LARGEST = 3.0
"""Latents come through a tanh that ends at this."""


@dataclass(frozen=True)
class TinyDecoder:
    """The weights by their names in the file, on ``device`` in ``dtype``; pictures above ``tile_px`` are in tiles."""

    shape: TinyDecoderShape
    weights: dict[str, Tensor]
    device: torch.device
    dtype: torch.dtype
    tile_px: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return sum(weight.nbytes for weight in self.weights.values())

    def decode(self, latents: Tensor) -> Tensor:
        """Return colours FP32 [3, H, W], about 0..1, of normalised latents [1, C, H / 8, W / 8]."""
        return decoded_in_tiles(latents, CELL, self.tile_px, self.device, self._decoded)

    def _decoded(self, latents: Tensor) -> Tensor:
        frames = torch.tanh(latents.to(self.device, torch.float32) / _LARGEST) * _LARGEST
        x = self._convolved(frames.to(self.dtype, memory_format=torch.channels_last), FIRST).relu_()
        for stage, blocks in enumerate(BLOCKS):
            for number in blocks:
                x = self._block(x, number)
            grown = self.weights[f"decoder.{GROWTHS[stage]}.conv.weight"]
            if stage == len(BLOCKS) - 1:
                # The last frame of the last one's: a 1 x 1 convolution is the same before the sides are doubled.
                x, grown = x[-1:], grown[-self.shape.widths[stage] :]
            x = functional.conv2d(x, grown)
            x = x.reshape(-1, self.shape.widths[stage], *x.shape[2:]).contiguous(memory_format=torch.channels_last)
            x = self._convolved(functional.interpolate(x, scale_factor=2.0, mode="nearest"), NARROWINGS[stage])
        return self._convolved(x.relu_(), LAST)[0].float()

    def _block(self, x: Tensor, number: int) -> Tensor:
        y = torch.cat([x, torch.cat([torch.zeros_like(x[:1]), x[:-1]])], dim=1)
        for place in (0, 2, 4):
            y = self._convolved(y if place == 0 else y.relu_(), f"{number}.conv.{place}")
        return y.add_(x).relu_()

    def _convolved(self, x: Tensor, place: int | str) -> Tensor:
        weights = self.weights
        return functional.conv2d(x, weights[f"decoder.{place}.weight"], weights.get(f"decoder.{place}.bias"), padding=1)


def load_tiny_decoder(
    path: Path, channels: int, device: torch.device, dtype: torch.dtype, tile_px: int | None
) -> TinyDecoder:
    """Load the decoder of a file for latents of so many channels; raises BadFile or OSError."""
    header = read_header(path)
    shape = tiny_decoder_shape(header, channels)
    file = MappedFile(path, header)
    weights = {}
    for name, size in shape.tensors().items():
        weight = file.tensor(name).to(device, dtype, copy=True)
        weights[name] = weight.contiguous(memory_format=torch.channels_last) if len(size) > 1 else weight
    return TinyDecoder(shape, weights, device, dtype, tile_px)
