"""Guidance as ComfyUI computes it: between pictures where the model points, and with its node CFGNorm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from qied_client.protocol.request import Compat
from torch import Tensor

from qied.engine.edits.denoise import PATCH, clean_estimate

_NORM_FLOOR: Final = 1e-8
_COMBINED_FLOOR: Final = 1e-12


def guided_as_comfyui(
    latents: Tensor, sigma: Tensor, velocities: Sequence[Tensor], scale: float, compat: Compat
) -> Tensor:
    """Return the velocity FP32 [1, tokens, C * 4] of a step at ``sigma`` from those of its forwards.

    ComfyUI combines estimates of the clean latents, x - sigma v (``cfg_function``), and its samplers go on from there.
    CFGNorm without pre_cfg brings the length of each cell's C values down to that of the positive estimate, never up,
    and multiplies all by its strength; with pre_cfg it brings that of sigma v up or down, and blends by its strength.
    At a scale of 1 there is one forward, which counts as both.
    """
    positive = clean_estimate(latents, velocities[0], sigma)
    if compat.cfg_norm == "pre":
        noise = [latents - clean_estimate(latents, velocity, sigma) for velocity in velocities]
        return _rescaled(noise[0], noise[-1], scale, compat.cfg_norm_strength) / sigma
    combined = positive
    if len(velocities) > 1:
        negative = clean_estimate(latents, velocities[1], sigma)
        combined = negative + (positive - negative) * scale
    if compat.cfg_norm == "post":
        shrunk = (_lengths(positive) / (_lengths(combined) + _NORM_FLOOR)).clamp(0.0, 1.0)
        combined = _scaled(combined, shrunk) * compat.cfg_norm_strength
    return (latents - combined) / sigma


def _rescaled(positive: Tensor, negative: Tensor, scale: float, strength: float) -> Tensor:
    combined = negative + scale * (positive - negative)
    lengths = _lengths(combined)
    ratio = torch.where(lengths > 0, _lengths(positive) / lengths.clamp_min(_COMBINED_FLOOR), torch.ones_like(lengths))
    rescaled = _scaled(combined, ratio)
    return rescaled if strength == 1.0 else strength * rescaled + (1.0 - strength) * combined


def _lengths(tokens: Tensor) -> Tensor:
    """The length [1, tokens, 1, 4] of the values of each cell of tokens [1, tokens, C * 4]."""
    lengths: Tensor = torch.linalg.vector_norm(_cells(tokens), dim=2, keepdim=True)
    return lengths


def _scaled(tokens: Tensor, factors: Tensor) -> Tensor:
    return (_cells(tokens) * factors).flatten(2)


def _cells(tokens: Tensor) -> Tensor:
    return tokens.reshape(*tokens.shape[:2], -1, PATCH * PATCH)
