"""The VAE: an RGB picture to normalised latents and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from qied_client.errors import JobFailed
from torch import Tensor

from qied.engine.vae.tiles import decoded_in_tiles, windows
from qied.link.engine_port import Picture
from qied.planning.profiles.tile_grid import MARGIN_PX, tile_grid


@dataclass(frozen=True)
class Vae:
    """AutoencoderKLQwenImage on single frames, and the mean and deviation (FP32 [C]) that normalise its latents.

    A picture with a side above ``encode_tile_px`` or ``decode_tile_px`` pixels is done in tiles of at most that, which
    overlap by ``tiling.OVERLAP_PX`` and fade into each other; then memory grows with the tile, and with the picture
    only by an FP32 canvas. A tile sees nothing beyond itself, neither in convolutions nor in the attention in the
    middle, so the result is close to the untiled one and not equal. None is untiled.
    """

    model: Any
    mean: Tensor
    deviation: Tensor
    device: torch.device
    dtype: torch.dtype
    encode_tile_px: int | None = None
    decode_tile_px: int | None = None

    @property
    def channels(self) -> int:
        """Latent channels."""
        return self.mean.numel()

    @property
    def cell(self) -> int:
        """Pixels along each side of a latent cell."""
        return int(self.model.spatial_compression_ratio)

    def encode(self, picture: Picture, size: tuple[int, int]) -> Tensor:
        """Resize an RGB picture to ``size`` (width, height) and return latents FP32 [1, C, H / cell, W / cell].

        They are the mode of the VAE's distribution, normalised.
        """
        resized = picture.resize(size, Image.Resampling.LANCZOS)
        return self.encode_pixels(torch.from_numpy(np.array(resized)).permute(2, 0, 1).unsqueeze(0))

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Return normalised latents FP32 of pixels [1, 3, H, W], uint8 or FP32 in -1..1, which may lie in host memory.

        Levels of 8 bits travel as such, a quarter of the bytes, and become numbers on the device.
        """
        height, width = pixels.shape[-2:]
        grid = tile_grid(width, height, self.encode_tile_px)
        if grid.count == 1:
            return self._encoded(pixels)
        canvas = torch.zeros((1, self.channels, height // self.cell, width // self.cell), device=self.device)
        for window in windows(grid // self.cell, MARGIN_PX // self.cell, self.device):
            rows, columns = (_in_pixels(cells, self.cell) for cells in (window.rows, window.columns))
            window.add_to(canvas, self._encoded(pixels[..., rows, columns]))
        return canvas

    def decode(self, latents: Tensor) -> Image.Image:
        """Return the RGB picture of normalised latents [1, C, rows, columns].

        Raises JobFailed where the result is not a number anywhere: it would silently come out black.
        """
        pixels = self._decode_pixels(latents)
        # One number that is not finite makes the sum so, and it takes no second picture of memory to find out.
        if not torch.isfinite(pixels.sum()):
            raise JobFailed(
                "The result holds values that are not numbers.",
                "Try another seed or more steps; if it happens again, run the model in bf16 or fp32.",
            )
        levels = pixels.clamp_(-1, 1).mul_(0.5).add_(0.5).mul_(255).round_().to(torch.uint8)
        return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())

    def _decode_pixels(self, latents: Tensor) -> Tensor:
        """Return pixels FP32 [3, H, W] of normalised latents, in a tensor of their own; about -1..1."""
        return decoded_in_tiles(latents, self.cell, self.decode_tile_px, self.device, self._decoded)

    def _encoded(self, pixels: Tensor) -> Tensor:
        there = pixels.to(self.device)
        if there.dtype == torch.uint8:
            there = there.float().div_(255).mul_(2).sub_(1)
        frame = there.to(self.dtype, memory_format=torch.channels_last).unsqueeze(2)
        moments = self.model.quant_conv(self.model.encoder(frame))
        mode: Tensor = moments[:, : self.channels, 0].float()
        return (mode - self._column(self.mean)) / self._column(self.deviation)

    def _decoded(self, latents: Tensor) -> Tensor:
        cells = latents.float() * self._column(self.deviation) + self._column(self.mean)
        frame = cells.to(self.dtype, memory_format=torch.channels_last).unsqueeze(2)
        pixels: Tensor = self.model.decoder(self.model.post_quant_conv(frame))[0, :, 0].float()
        return pixels

    def _column(self, values: Tensor) -> Tensor:
        return values.to(self.device).view(1, -1, 1, 1)


def _in_pixels(cells: slice, cell: int) -> slice:
    return slice(cells.start * cell, cells.stop * cell)
