"""Pictures to the transformer's normalised, packed latents and back, with frozen weights of the VAE."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKLQwenImage
from torch import Tensor

from tools.tiny_model.codec import LatentStatistics, PictureCodec, pack, unpack

DECODED_AT_ONCE = 64


class Latents:
    """Encodes and decodes with the VAE of a pipeline folder; ``dtype`` is that of the convolutions."""

    def __init__(self, folder: Path, dtype: torch.dtype, device: torch.device, *, compiled: bool = False) -> None:
        vae = AutoencoderKLQwenImage.from_pretrained(folder).to(device, dtype).eval().requires_grad_(False)
        self._codec = PictureCodec(vae, dtype, compiled)
        self._statistics = LatentStatistics(vae.config.latents_mean, vae.config.latents_std).to(device)

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Packed latents FP32 [N, tokens, 64] of pictures [N, 3, H, W], 0..1."""
        mean, _ = self._codec.moments(pictures * 2 - 1)
        return pack(self._statistics.normalise(mean))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures FP32 [N, 3, side, side], 0..1, of packed latents of square pictures."""
        grids = self._statistics.denormalise(unpack(latents.float()))
        parts = [self._codec.decode(part) for part in grids.split(DECODED_AT_ONCE)]
        return (torch.cat(parts).clamp(-1, 1) + 1) / 2


def as_bytes(pictures: Tensor) -> Tensor:
    """Pictures 0..1 rounded to the 256 levels that a file has."""
    return (pictures * 255).round() / 255
