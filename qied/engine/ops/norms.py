"""Norms of a block as torch computes them: layer norm with modulation, RMS norm with rotation of queries and keys."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from qied.engine.ops.operations import NORM_EPSILON
from qied.engine.weights.quantise import row_chunks


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return layer-normalised ``x`` [rows, D] times (1 + scale) plus shift, both [D]; each step is of the type of x."""
    normed = functional.layer_norm(x, x.shape[-1:], eps=NORM_EPSILON)
    return normed.mul_(1 + scale.to(x.dtype)).add_(shift.to(x.dtype))


def rotated_norm(x: Tensor, weight: Tensor, rotation: Tensor, dtype: torch.dtype) -> None:
    """RMS-normalise each head of ``x`` [rows, heads, head_dim] and rotate its pairs, in place.

    ``rotation`` FP32 [rows, head_dim] has cosine and sine of each pair. What is normalised, and then what is weighted,
    is rounded to ``dtype``; else all is computed in FP32.
    """
    for rows in row_chunks(x.shape[0], x.shape[1] * x.shape[2]):
        x[rows] = rotated(x[rows], weight, rotation[rows], dtype)


def rotated(x: Tensor, weight: Tensor, rotation: Tensor, dtype: torch.dtype) -> Tensor:
    """Like :func:`rotated_norm`, in FP32 to a tensor of its own."""
    turns = torch.view_as_complex(rotation.view(len(rotation), -1, 2))
    normed = functional.rms_norm(x.float(), weight.shape, None, NORM_EPSILON).to(dtype).mul_(weight.to(dtype)).float()
    pairs = torch.view_as_complex(normed.view(*normed.shape[:-1], -1, 2))
    pairs.mul_(turns.unsqueeze(1))
    return normed
