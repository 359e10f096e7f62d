"""Flow matching: noise levels to train on, how a transformer is told of them, and the error of its velocity."""

from __future__ import annotations

import torch
from torch import Tensor

from tools.tiny_model.denoiser import time_channels

PURE_NOISE_SHARE = 0.05
"""Share of samples whose picture is all noise."""
LOGIT_MEAN, LOGIT_DEVIATION = 0.6, 1.2
LEAST_LEVEL = 0.003


def sample_noise_levels(count: int, even_share: float, device: torch.device) -> Tensor:
    """Noise levels [count] of a batch: ``even_share`` of them drawn evenly, some exactly 1, the rest logit-normal.

    High levels, where a target is decided, are the most frequent ones.
    """
    normal = torch.sigmoid(LOGIT_MEAN + LOGIT_DEVIATION * torch.randn(count, device=device))
    even = torch.rand(count, device=device)
    kind = torch.rand(count, device=device)
    levels = torch.where(kind < even_share, even, normal).clamp(min=LEAST_LEVEL)
    return torch.where(kind > 1 - PURE_NOISE_SHARE, 1.0, levels)


def mixed_time_channels(levels: Tensor) -> Tensor:
    """Time channels as BF16 and FP32 pipelines compute them, one or the other for each sample, so that both work."""
    rounded = torch.rand(len(levels), 1, device=levels.device) < 0.5
    return torch.where(rounded, time_channels(levels, torch.bfloat16), time_channels(levels, torch.float32))


def weighted_error(velocity: Tensor, wanted: Tensor, changed: Tensor, edit_weight: float) -> tuple[Tensor, Tensor]:
    """Mean squared error with edited tokens counted more, and the plain means of kept and edited tokens [2].

    velocity and wanted are [B, tokens, 64], changed [B, tokens] (0 or 1).
    """
    error = (velocity - wanted).square().mean(-1)
    weight = 1 + (edit_weight - 1) * changed
    kept = (error * (1 - changed)).sum() / (1 - changed).sum().clamp(min=1)
    edited = (error * changed).sum() / changed.sum().clamp(min=1)
    return (error * weight).sum() / weight.sum(), torch.stack([kept, edited]).detach()
