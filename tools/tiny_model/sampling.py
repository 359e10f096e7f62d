"""Edits with weights in training, in batches: what the pipeline does at 256 x 256, for measures on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from tools.tiny_model.denoiser import PICTURE_TOKENS, Weights, time_channels
from tools.tiny_model.edit_forward import EditForward
from tools.tiny_model.edits import Edit
from tools.tiny_model.latents import Latents, as_bytes
from tools.tiny_model.prompts import Prompts
from tools.tiny_model.render import render_scenes
from tools.tiny_model.text_encoder import condition_patches

SCHEDULER_CONFIG = {
    "num_train_timesteps": 1000,
    "shift": 1.0,
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 0.9,
    "base_image_seq_len": 256,
    "max_image_seq_len": 8192,
    "shift_terminal": 0.02,
    "time_shift_type": "exponential",
}
LIGHTNING_SHIFT = 3.0
SAMPLED_AT_ONCE = 256


def noise_levels(steps: int) -> list[float]:
    """The model's schedule at 256 x 256, from 1 down to 0: ``steps`` + 1 levels."""
    scheduler = FlowMatchEulerDiscreteScheduler(**SCHEDULER_CONFIG)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=SCHEDULER_CONFIG["base_shift"])
    return [float(level) for level in scheduler.sigmas]


def lightning_levels(steps: int) -> list[float]:
    """Lightning's schedule: s' = 3 s / (1 + 2 s), then 0."""
    even = [1 - step / steps for step in range(steps)]
    return [LIGHTNING_SHIFT * s / (1 + (LIGHTNING_SHIFT - 1) * s) for s in even] + [0.0]


class Sampler:
    """Runs edits through the weights of now."""

    def __init__(self, forward: EditForward, latents: Latents, prompts: Prompts) -> None:
        self._forward, self._latents, self._prompts = forward, latents, prompts

    @torch.no_grad()
    def run(
        self, weights: Weights, edits: Sequence[Edit], levels: Sequence[float], rounding: Tensor | None = None
    ) -> Tensor:
        """Results FP32 [N, 3, 256, 256], 0..1, of edits that all have as many pictures; ``rounding``: ``Denoiser``."""
        parts = [edits[start : start + SAMPLED_AT_ONCE] for start in range(0, len(edits), SAMPLED_AT_ONCE)]
        return torch.cat([self._run_part(weights, part, levels, rounding) for part in parts])

    def _run_part(
        self, weights: Weights, edits: Sequence[Edit], levels: Sequence[float], rounding: Tensor | None
    ) -> Tensor:
        device = self._forward.device
        pictures = [render_scenes([edit.source for edit in edits], device)]
        others = [edit.reference for edit in edits if edit.reference is not None]
        if others:
            pictures.append(render_scenes(others, device))
        pictures = [as_bytes(picture) for picture in pictures]
        patches = torch.stack([condition_patches(picture) for picture in pictures], 1)
        references = torch.stack([self._latents.encode(picture) for picture in pictures], 1)
        hidden, lengths = self._hidden([edit.instruction for edit in edits], patches)
        generator = torch.Generator().manual_seed(7)
        noisy = torch.randn(len(edits), PICTURE_TOKENS, references.shape[-1], generator=generator).to(device)
        for level, following in pairwise(levels):
            time = time_channels(torch.full((len(edits),), level, device=device), self._forward.dtype)
            velocity = self._forward.velocity(weights, noisy, references, hidden, lengths, time, rounding)
            noisy = noisy + (following - level) * velocity
        return self._latents.decode(noisy)

    def _hidden(self, instructions: Sequence[str], patches: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states and lengths."""
        ids, lengths = (x.to(self._forward.device) for x in self._prompts.batch(instructions, patches.shape[1]))
        mrope = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
        return self._forward.hidden(ids, patches.to(self._forward.dtype), mrope), lengths


def success_by_task(successes: Sequence[bool], edits: Sequence[Edit]) -> dict[str, float]:
    """Share of successes over all and by task."""
    by_task: dict[str, list[bool]] = {}
    for success, edit in zip(successes, edits, strict=True):
        by_task.setdefault(edit.task, []).append(success)
    shares = {task: sum(group) / len(group) for task, group in by_task.items()}
    return {"all": sum(successes) / max(1, len(successes)), **shares}


def mean_known(values: Sequence[float | None]) -> float:
    """Mean of the values that are there; NaN where none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan
