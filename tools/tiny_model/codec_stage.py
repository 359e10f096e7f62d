"""Training of the VAE on random pictures, as one recorded step for each of two sizes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage
from torch import Tensor

from tools.tiny_model.budgets import Budget
from tools.tiny_model.codec import PictureCodec, make_vae
from tools.tiny_model.edits import sample_edit
from tools.tiny_model.graphs import capture
from tools.tiny_model.metrics import psnr
from tools.tiny_model.optimisers import learning_rate_factor
from tools.tiny_model.random_pictures import random_pictures
from tools.tiny_model.render import render, scene_rows
from tools.tiny_model.running_mean import RunningMean
from tools.tiny_model.scenes import MAX_SHAPES, Scene, sample_scene
from tools.tiny_model.stage import random_state, restore_random_state, seed_everything
from tools.tiny_model.style import styled_rows
from tools.tiny_model.weight_updates import Rates, WeightUpdates

RATES = Rates(muon=2e-3, adam=1e-3, weight_decay=0.0, ema=0.998)
WARM_UP, DECAY = 0.02, 0.5
LARGE_SHARE = 0.2
"""Share of the steps, the last ones, on pictures of twice the side in a quarter of the batch."""
SQUARE_WEIGHT, EDGE_WEIGHT, KL_WEIGHT = 2.0, 0.5, 1e-3
"""Of squared error, of the absolute error of differences between neighbours, and of the posterior's divergence."""
EVALUATED_AT_ONCE = 32
CHECKED_PART = 8
"""One in so many of the held-out scenes is looked at on the way."""
HELD_OUT_SEED, STATISTICS_SEED = 99, 98
MATRIX_ROWS = 16
"""Kernels with fewer output channels are no matrices that Muon should turn."""
NO_MATRIX = ("conv_in.", "conv_out.", "quant_conv.", "norm")
"""Parts of the names of weights that AdamW trains: first and last layers, and the norms' scales."""


class CodecStage:
    """Trains with ``budget.codec`` on ``device``: in BF16 on a GPU, in FP32 on a CPU."""

    name = "codec"

    def __init__(self, budget: Budget, device: torch.device) -> None:
        own = budget.codec
        self.total, self._device, self._evaluated = own.steps, device, own.evaluated
        self._first_large = own.steps - round(LARGE_SHARE * own.steps)
        on_gpu = device.type == "cuda"
        self._dtype = torch.bfloat16 if on_gpu else torch.float32
        if on_gpu:
            torch.backends.cudnn.benchmark = True
        self._vae = make_vae(budget.seed).to(device)
        self._codec = PictureCodec(self._vae, self._dtype, compiled=on_gpu)
        self._updates = WeightUpdates(*trained_parameters(self._vae), RATES)
        self._means = RunningMean(("l1", "square", "kl", "norm"), device)
        self._small_step = self._recorded(own.batch, own.side)
        self._large_step = self._recorded(max(1, own.batch // 4), 2 * own.side)
        self._updates.reset()
        self._means.reset()
        seed_everything(budget.seed)

    def _recorded(self, batch: int, side: int) -> Callable[[], None]:
        """A step on that many pictures of that side; calls of it on the way change no weights."""
        self._updates.set_factor(0.0)
        return capture(lambda: self._train(batch, side), self._device)

    def _train(self, batch: int, side: int) -> None:
        loss, parts = losses(self._codec, random_pictures(batch, side, self._device))
        loss.backward()
        self._updates.step()
        self._means.add((*parts, self._updates.norm))

    def advance(self, step: int) -> None:
        """Make step number ``step`` (from 0); the last ones are on large pictures."""
        self._updates.set_factor(learning_rate_factor(step / self.total, WARM_UP, DECAY))
        (self._small_step if step < self._first_large else self._large_step)()

    def measures(self) -> dict[str, float]:
        """Smoothed measures of training: errors of pixels in -1..1, PSNR in dB, the divergence of a latent in nats."""
        means = self._means.values()
        square = means.pop("square")
        return {**means, "psnr": _decibels(square)}

    def state(self) -> dict[str, Any]:
        """All that changes from step to step; the tensors are those of the training, not copies."""
        return {
            "updates": self._updates.state(),
            "means": self._means.state(),
            "random": random_state(self._device),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        self._updates.load(state["updates"])
        self._means.load(state["means"])
        restore_random_state(state["random"], self._device)

    def validate(self) -> dict[str, float]:
        """PSNR in dB of the averaged weights over a part of the held-out scenes."""
        with self._updates.ema.applied():
            return held_out_measures(self._codec, max(1, self._evaluated // CHECKED_PART), self._device)

    def finish(self, folder: Path) -> dict[str, float]:
        """Write the averaged weights in BF16 to ``folder / "vae"``; return the PSNR in dB of what was written."""
        with self._updates.ema.applied():
            shipped = copy.deepcopy(self._vae).bfloat16().requires_grad_(False)
        codec = PictureCodec(shipped, self._dtype)
        mean, std = latent_statistics(codec, self._evaluated, self._device)
        measures = held_out_measures(codec, self._evaluated, self._device)
        shipped.register_to_config(latents_mean=mean, latents_std=std)
        shipped.to("cpu").save_pretrained(folder / "vae")
        return measures


def trained_parameters(vae: AutoencoderKLQwenImage) -> tuple[list[Tensor], list[Tensor]]:
    """Weights that Muon trains and those that AdamW does; what single frames never reach is frozen."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, param in vae.named_parameters():
        if "time_conv." in name:
            param.requires_grad_(False)
            continue
        is_matrix = param.ndim >= 4 and len(param) >= MATRIX_ROWS and not any(part in name for part in NO_MATRIX)
        (matrices if is_matrix else others).append(param)
    return matrices, others


def losses(codec: PictureCodec, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The loss on pictures [N, 3, H, W], 0..1, and L1, mean square and divergence apart, [3] without gradient.

    Errors are those of pixels in -1..1, decoded from a sample of the posterior; the divergence is that of one latent.
    """
    given = pictures * 2 - 1
    mean, log_variance = codec.moments(given)
    error = codec.decode(mean + (0.5 * log_variance).exp() * torch.randn_like(mean)) - given
    absolute, square = error.abs().mean(), error.square().mean()
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    loss = absolute + SQUARE_WEIGHT * square + EDGE_WEIGHT * edges + KL_WEIGHT * divergence
    return loss, torch.stack([absolute, square, divergence]).detach()


def _decibels(mean_square: float) -> float:
    """PSNR of pictures in -1..1."""
    return -10 * math.log10(max(mean_square, 1e-10) / 4)


@torch.no_grad()
def latent_statistics(codec: PictureCodec, count: int, device: torch.device) -> tuple[list[float], list[float]]:
    """Mean and deviation of each latent channel over the results of ``count`` edits, as the pipeline encodes them."""
    rng = Random(STATISTICS_SEED)
    rows = scene_rows([sample_edit(rng).target for _ in range(count)]).to(device)
    latents = torch.cat([codec.moments(render(part) * 2 - 1)[0] for part in torch.split(rows, EVALUATED_AT_ONCE)])
    return latents.mean((0, 2, 3)).tolist(), latents.std((0, 2, 3)).tolist()


@torch.no_grad()
def held_out_measures(codec: PictureCodec, count: int, device: torch.device) -> dict[str, float]:
    """Mean and worst PSNR in dB over ``count`` scenes, plain and in the outlined style."""
    rng = Random(HELD_OUT_SEED)
    scenes: list[Scene] = [sample_scene(rng, number % (MAX_SHAPES + 1)) for number in range(count)]
    parts = torch.split(scene_rows(scenes).to(device), EVALUATED_AT_ONCE)
    measured = {
        "plain": torch.cat([_psnr(codec, render(part)) for part in parts]),
        "outlined": torch.cat([_psnr(codec, styled_rows(part)) for part in parts]),
    }
    return {
        f"{name} psnr {kind}": float(value)
        for name, values in measured.items()
        for kind, value in (("mean", values.mean()), ("worst", values.min()))
    }


def _psnr(codec: PictureCodec, pictures: Tensor) -> Tensor:
    """PSNR [N] in dB of pictures 0..1 that were encoded (the posterior's mean) and decoded."""
    mean, _ = codec.moments(pictures * 2 - 1)
    return psnr((codec.decode(mean).clamp(-1, 1) + 1) / 2, pictures)
