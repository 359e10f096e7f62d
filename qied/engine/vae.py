"""The VAE: an RGB picture to normalised latents and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from qied_client.errors import JobFailed
from torch import Tensor


@dataclass(frozen=True)
class Vae:
    """AutoencoderKLQwenImage on single frames, and the mean and deviation (FP32 [C]) that normalise its latents."""

    model: Any
    mean: Tensor
    deviation: Tensor
    device: torch.device
    dtype: torch.dtype

    @property
    def channels(self) -> int:
        """Latent channels."""
        return self.mean.numel()

    @property
    def cell(self) -> int:
        """Pixels along each side of a latent cell."""
        return int(self.model.spatial_compression_ratio)

    def encode(self, picture: Image.Image, size: tuple[int, int]) -> Tensor:
        """Resize an RGB picture to ``size`` (width, height) and return latents FP32 [1, C, H / cell, W / cell].

        They are the mode of the VAE's distribution, normalised.
        """
        resized = picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).unsqueeze(0) / 255
        return self.encode_pixels(2 * pixels - 1)

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Return normalised latents FP32 of pixels [1, 3, H, W] in -1..1."""
        frame = pixels.to(self.device, self.dtype, memory_format=torch.channels_last).unsqueeze(2)
        moments = self.model.quant_conv(self.model.encoder(frame))
        mode: Tensor = moments[:, : self.channels, 0].float()
        return (mode - self._column(self.mean)) / self._column(self.deviation)

    def decode(self, latents: Tensor) -> Image.Image:
        """Return the RGB picture of normalised latents [1, C, rows, columns].

        Raises JobFailed where the result is not a number anywhere: it would come out black without a word.
        """
        cells = latents.float() * self._column(self.deviation) + self._column(self.mean)
        frame = cells.to(self.dtype, memory_format=torch.channels_last).unsqueeze(2)
        pixels: Tensor = self.model.decoder(self.model.post_quant_conv(frame))[0, :, 0].float()
        if not torch.isfinite(pixels).all():
            raise JobFailed(
                "The result holds values that are not numbers.",
                "Try another seed or more steps; if it happens again, run the model in bf16 or fp32.",
            )
        levels = (pixels.clamp(-1, 1) * 0.5 + 0.5).mul(255).round().to(torch.uint8)
        return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())

    def _column(self, values: Tensor) -> Tensor:
        return values.to(self.device).view(1, -1, 1, 1)
