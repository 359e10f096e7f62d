"""Files of tiny autoencoders with random weights, and a plain decoder of them in FP64 that makes every frame."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from qied.weights.tiny_autoencoder import TinyDecoderShape

FULL = TinyDecoderShape(16, (256, 128, 64, 64), (1, 2, 2))
"""taew2_1's and lighttaew2_1's."""
SMALL = TinyDecoderShape(16, (24, 16, 12, 8), (1, 2, 2))


def random_weights(shape: TinyDecoderShape, seed: int = 0) -> dict[str, Tensor]:
    """Weights that keep the size of what goes through them, and a tensor of the encoder, which no preview needs."""
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.randn(size, generator=generator) * (0.05 if len(size) == 1 else (2 / prod(size[1:])) ** 0.5)
        for name, size in shape.tensors().items()
    }
    return {**weights, "encoder.0.weight": torch.zeros(64, 3, 3, 3)}


def write_tiny(path: Path, weights: Mapping[str, Tensor], dtype: torch.dtype = torch.float16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.to(dtype).contiguous() for name, weight in weights.items()}, path)
    return path


def decoder_of_cells(weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """A decoder that gives each pixel the colour of its cell, by a map of latents with ``weight`` [C, 3] and ``bias``.

    The first layer parts what is above and below zero, all blocks add nothing, and all else passes on what it gets.
    """
    channels = len(weight)
    shape = TinyDecoderShape(channels, (2 * channels,) * 4, (1, 1, 1))
    weights = {name: torch.zeros(size) for name, size in shape.tensors().items()}
    both = torch.cat([torch.eye(channels), -torch.eye(channels)])
    weights["decoder.1.weight"][..., 1, 1] = both
    for growth, narrowing in ((7, 8), (13, 14), (19, 20)):
        weights[f"decoder.{growth}.conv.weight"][..., 0, 0] = torch.eye(2 * channels)
        weights[f"decoder.{narrowing}.weight"][..., 1, 1] = torch.eye(2 * channels)
    weights["decoder.22.weight"][..., 1, 1] = (both @ weight).T
    weights["decoder.22.bias"] += bias
    return weights


def plainly_decoded(weights: Mapping[str, Tensor], latents: Tensor) -> Tensor:
    """The last frame [3, H, W] of all that one frame of latents [1, C, h, w] becomes, layer by layer."""

    def convolve(x: Tensor, name: str, padding: int = 1) -> Tensor:
        bias = weights.get(f"decoder.{name}.bias")
        weight = weights[f"decoder.{name}.weight"].double()
        return functional.conv2d(x, weight, None if bias is None else bias.double(), padding=padding)

    frames = [functional.relu(convolve(3 * torch.tanh(latents.double() / 3), "1"))]
    for first in (3, 9, 15):
        for number in range(first, first + 3):
            before, after = torch.zeros_like(frames[0]), []
            for frame in frames:
                x = torch.cat([frame, before], 1)
                x = functional.relu(convolve(x, f"{number}.conv.0"))
                x = functional.relu(convolve(x, f"{number}.conv.2"))
                after.append(functional.relu(convolve(x, f"{number}.conv.4") + frame))
                before = frame
            frames = after
        grown = []
        for frame in frames:
            doubled = frame.repeat_interleave(2, 2).repeat_interleave(2, 3)
            made = convolve(doubled, f"{first + 4}.conv", padding=0)
            grown += made.chunk(made.shape[1] // frame.shape[1], 1)
        frames = [convolve(frame, f"{first + 5}") for frame in grown]
    return convolve(functional.relu(frames[-1]), "22")[0]
