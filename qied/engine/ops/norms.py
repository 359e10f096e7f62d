"""Norms of a block as torch computes them: layer norm with modulation, RMS norm with rotation of queries and keys."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from qied.engine.ops.operations import NORM_EPSILON
from qied.engine.quantise import row_chunks


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return layer-normalised FP32 ``x`` [rows, D] times (1 + scale) plus shift, both [D], in FP32."""
    normed = functional.layer_norm(x, x.shape[-1:], eps=NORM_EPSILON)
    return torch.addcmul(shift.float(), normed, 1 + scale.float(), out=normed)


def rotated_norm(x: Tensor, weight: Tensor, rotation: Tensor) -> None:
    """RMS-normalise each head of ``x`` [rows, heads, head_dim] and rotate its pairs, in place.

    ``rotation`` FP32 [rows, head_dim] has cosine and sine of each pair. All is computed in FP32 and rounded once.
    """
    for rows in row_chunks(x.shape[0], x.shape[1] * x.shape[2]):
        x[rows] = rotated(x[rows].float(), weight, rotation[rows])


def rotated(x: Tensor, weight: Tensor, rotation: Tensor) -> Tensor:
    """Return FP32 ``x`` [rows, heads, head_dim], each head RMS-normalised and its pairs rotated, in FP32."""
    turns = torch.view_as_complex(rotation.view(len(rotation), -1, 2))
    normed = functional.rms_norm(x, weight.shape, weight.float(), NORM_EPSILON)
    pairs = torch.view_as_complex(normed.view(*normed.shape[:-1], -1, 2))
    pairs.mul_(turns.unsqueeze(1))
    return normed
