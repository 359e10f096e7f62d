"""Norms of a block: layer norm with modulation, and RMS norm with rotation of queries and keys."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from qied.engine.quantise import row_chunks

EPSILON = 1e-6


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return layer-normalised ``x`` [rows, D] times (1 + scale) plus shift, both [D].

    The norm and 1 + scale are rounded to the type of ``x``; product and sum are rounded once, together, where diffusers
    rounds each of them: in BF16 results differ in the last bit.
    """
    normed = functional.layer_norm(x, x.shape[-1:], eps=EPSILON)
    return torch.addcmul(shift, normed, 1 + scale, out=normed)


def rotated_norm(x: Tensor, weight: Tensor, rotation: Tensor, out: Tensor) -> None:
    """RMS-normalise each head of ``x`` [rows, heads, head_dim], rotate its pairs, and write it to ``out``.

    ``rotation`` is complex64 [rows, head_dim / 2]; everything is computed in FP32 and rounded once.
    """
    for rows in row_chunks(x.shape[0], x.shape[1] * x.shape[2]):
        normed = functional.rms_norm(x[rows].float(), weight.shape, weight.float(), EPSILON)
        pairs = torch.view_as_complex(normed.view(*normed.shape[:-1], -1, 2))
        pairs.mul_(rotation[rows].unsqueeze(1))
        out[rows] = normed
