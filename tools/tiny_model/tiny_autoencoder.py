"""Training of the small tiny autoencoder that decodes the built-in model's previews: its decoder alone, on a CPU.

Pictures are those that the VAE was trained on, latents what the VAE makes of them, as the transformer has them. The
structure is TAEHV's with narrow stages that add no frames, so a residual block never has a frame before it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from math import prod
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from qied.weights.tiny_autoencoder import BLOCKS, FIRST, GROWTHS, LAST, NARROWINGS, TinyDecoderShape
from tools.tiny_model.codec import unpack
from tools.tiny_model.latents import Latents
from tools.tiny_model.metrics import psnr
from tools.tiny_model.optimisers import learning_rate_factor
from tools.tiny_model.random_pictures import random_pictures

SHAPE = TinyDecoderShape(16, (32, 24, 16, 16), (1, 1, 1))
BATCH, SIDE = 8, 64
RATE = 3e-3
WARM_UP, DECAY = 0.02, 0.5
EDGE_WEIGHT = 0.5
SEED = 5
HELD_OUT = 64


def train(model: Path, file: Path, steps: int, minutes: float, tell: Callable[[str], None]) -> float:
    """Train a decoder for the VAE of a pipeline folder, and write it in FP16; returns its PSNR in dB on new pictures.

    It ends after so many steps, or so many minutes, whichever comes first.
    """
    torch.manual_seed(SEED)
    device, started = torch.device("cpu"), time.monotonic()
    latents = Latents(model / "vae", torch.float32, device)
    weights = first_weights(SHAPE)
    optimiser = torch.optim.AdamW(weights.values(), RATE, betas=(0.9, 0.98), weight_decay=0.0)
    done = 0.0
    while done < 1:
        done = min(1.0, max(done + 1 / steps, (time.monotonic() - started) / (60 * minutes)))
        for group in optimiser.param_groups:
            group["lr"] = RATE * learning_rate_factor(done, WARM_UP, DECAY)
        pictures = random_pictures(BATCH, SIDE, device)
        error = decoded(weights, _cells(latents, pictures)) - pictures
        edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        loss = error.abs().mean() + 2 * error.square().mean() + EDGE_WEIGHT * edges
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        tell(f"{done:.1%}: {-10 * math.log10(float(error.detach().square().mean())):.1f} dB")
    with torch.no_grad():
        pictures = random_pictures(HELD_OUT, 2 * SIDE, device)
        quality = float(psnr(decoded(weights, _cells(latents, pictures)).clamp(0, 1), pictures).mean())
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.detach().half().contiguous() for name, weight in weights.items()}, file)
    return quality


def first_weights(shape: TinyDecoderShape) -> dict[str, Tensor]:
    """Random weights by which values keep their size; the last convolution of a block adds little at first."""
    weights = {}
    for name, size in shape.tensors().items():
        scale = 0.0 if len(size) == 1 else (2 / prod(size[1:])) ** 0.5
        weights[name] = (torch.randn(size) * scale * (0.1 if ".conv.4." in name else 1.0)).requires_grad_()
    with torch.no_grad():
        weights[f"decoder.{LAST}.bias"] += 0.5
    return weights


def decoded(weights: dict[str, Tensor], latents: Tensor) -> Tensor:
    """Colours [N, 3, H, W], about 0..1, of normalised latents [N, 16, H / 8, W / 8], each alone."""

    def convolve(x: Tensor, place: int | str, padding: int = 1) -> Tensor:
        # What would be of the frame before is zero.
        weight = weights[f"decoder.{place}.weight"][:, : x.shape[1]]
        return functional.conv2d(x, weight, weights.get(f"decoder.{place}.bias"), padding=padding)

    x = functional.relu(convolve(3 * torch.tanh(latents / 3), FIRST))
    for blocks, growth, narrowing in zip(BLOCKS, GROWTHS, NARROWINGS, strict=True):
        for number in blocks:
            y = functional.relu(convolve(x, f"{number}.conv.0"))
            y = functional.relu(convolve(y, f"{number}.conv.2"))
            x = functional.relu(convolve(y, f"{number}.conv.4") + x)
        x = functional.interpolate(convolve(x, f"{growth}.conv", 0), scale_factor=2.0, mode="nearest")
        x = convolve(x, narrowing)
    return convolve(functional.relu(x), LAST)


def _cells(latents: Latents, pictures: Tensor) -> Tensor:
    return unpack(latents.encode(pictures))
