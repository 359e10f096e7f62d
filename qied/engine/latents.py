"""Latents: the noise of a seed, and packing 2x2 cells into the transformer's tokens and back."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

PATCH = 2
"""Latent cells along each side of a token."""
_SEEDS = 2**32
"""Seeds that torch's generator on the CPU tells apart."""


def initial_noise(seed: int, channels: int, rows: int, columns: int) -> Tensor:
    """Draw noise FP32 [1, channels, rows, columns] on the CPU, so that a seed means the same on every device.

    The draw of a seed below 2**32 is that of diffusers' pipeline with a CPU generator; rounded to BF16 it equals a draw
    in BF16. Of a larger one torch would take the lower 32 bits alone: its noise is the sum of two draws, whose seeds
    are a hash of all bits.
    """
    shape = (1, channels, rows, columns)
    if seed < _SEEDS:
        return _drawn(seed, shape)
    digest = hashlib.sha256(seed.to_bytes(8, "little")).digest()
    one, two = (int.from_bytes(digest[place : place + 4], "little") for place in (0, 4))
    noise: Tensor = (_drawn(one, shape) + _drawn(two, shape)) * 0.5**0.5
    return noise


def _drawn(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32)


def pack(latents: Tensor) -> Tensor:
    """Turn cells [1, C, rows, columns] into tokens [1, rows/2 * columns/2, C * 4]."""
    _, channels, rows, columns = latents.shape
    cells = latents.reshape(1, channels, rows // PATCH, PATCH, columns // PATCH, PATCH)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(1, -1, channels * PATCH * PATCH)


def unpack(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """Turn tokens [1, rows/2 * columns/2, C * 4] back into cells [1, C, rows, columns]."""
    channels = tokens.shape[-1] // (PATCH * PATCH)
    cells = tokens.reshape(1, rows // PATCH, columns // PATCH, channels, PATCH, PATCH)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(1, channels, rows, columns)
