"""One denoising step: the transformer's forwards, guidance, and the step along the schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TIMESTEPS = 1000
"""Timesteps of training: the transformer is told sigma * 1000 / 1000, rounded as diffusers rounds it."""

LatentShape = tuple[int, int, int]


@dataclass(frozen=True)
class Conditioning:
    """What stays the same over the steps of one edit.

    ``references`` [1, tokens, C * 4] follow the target's tokens; ``shapes`` are (1, rows, columns) in tokens of the
    target and each reference; embeddings are [1, text tokens, hidden]; all in the model's dtype. ``negative`` is None
    without guidance.
    """

    references: Tensor
    shapes: Sequence[LatentShape]
    positive: Tensor
    negative: Tensor | None
    scale: float


def predict_velocity(
    transformer: Any, latents: Tensor, sigma: Tensor, conditioning: Conditioning, embeddings: Tensor
) -> Tensor:
    """Run one forward and return the velocity FP32 [1, target tokens, C * 4] at ``latents`` (FP32)."""
    references = conditioning.references
    output: Tensor = transformer(
        hidden_states=torch.cat([latents.to(references.dtype), references], dim=1),
        timestep=((sigma * TIMESTEPS) / TIMESTEPS).reshape(1).to(latents.device),
        encoder_hidden_states=embeddings,
        encoder_hidden_states_mask=None,
        img_shapes=[list(conditioning.shapes)],
        return_dict=False,
    )[0]
    return output[:, : latents.shape[1]].float()


def guide(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Combine two predictions by classifier-free guidance, each token scaled back to the positive one's norm."""
    combined = negative + scale * (positive - negative)
    return combined * (_lengths(positive) / _lengths(combined))


def guided_velocity(transformer: Any, latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
    """Return the velocity FP32 of one step: one forward, or two with guidance."""
    positive = predict_velocity(transformer, latents, sigma, conditioning, conditioning.positive)
    if conditioning.negative is None:
        return positive
    negative = predict_velocity(transformer, latents, sigma, conditioning, conditioning.negative)
    return guide(positive, negative, conditioning.scale)


def euler_step(latents: Tensor, velocity: Tensor, sigma: Tensor, next_sigma: Tensor) -> Tensor:
    """Move latents FP32 from ``sigma`` to ``next_sigma``."""
    return latents + (next_sigma - sigma) * velocity


def clean_estimate(latents: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """Return where the velocity points at sigma 0: the picture as it looks from here, FP32."""
    return latents - sigma * velocity


def _lengths(tokens: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True)
    return lengths
