"""One denoising step: the transformer's forwards, guidance, and the step along the schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qied.engine.lora.branches import BlockLoras
from qied.engine.modulation_table import StepModulation
from qied.engine.rope import Rotation
from qied.engine.transformer import Forward, Transformer


@dataclass(frozen=True)
class Conditioning:
    """What stays the same over the steps of one edit.

    ``references`` [1, tokens, C * 4] follow the target's tokens; ``rotation`` has the positions of target, references
    and the longer text; embeddings are [1, text tokens, hidden], of the compute type like the references.
    ``negative`` is None without guidance.
    """

    references: Tensor
    rotation: Rotation
    positive: Tensor
    negative: Tensor | None
    scale: float


def guide(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Combine two predictions by classifier-free guidance, each token scaled back to the positive one's norm."""
    combined = negative + scale * (positive - negative)
    return combined * (_lengths(positive) / _lengths(combined))


def guided_velocity(
    transformer: Transformer,
    latents: Tensor,
    modulation: StepModulation,
    conditioning: Conditioning,
    loras: Sequence[BlockLoras] = (),
) -> Tensor:
    """Return the velocity FP32 [1, target tokens, C * 4] of one step: one forward, or two in one sweep with guidance.

    ``latents`` are FP32, of the same shape. ``loras`` has one entry for each block, or none at all.
    """
    prompts = [conditioning.positive]
    if conditioning.negative is not None:
        prompts.append(conditioning.negative)
    forwards = [
        Forward(latents, conditioning.references, prompt, conditioning.rotation, modulation, loras)
        for prompt in prompts
    ]
    positive, *negative = transformer.velocities(forwards)
    return guide(positive, negative[0], conditioning.scale) if negative else positive


def euler_step(latents: Tensor, velocity: Tensor, sigma: Tensor, next_sigma: Tensor) -> Tensor:
    """Move latents FP32 from ``sigma`` to ``next_sigma``."""
    return latents + (next_sigma - sigma) * velocity


def clean_estimate(latents: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """Return where the velocity points at sigma 0: the picture as it looks from here, FP32."""
    return latents - sigma * velocity


def _lengths(tokens: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True)
    return lengths
