"""Casts to FP8 (E4M3) with a scale for each row or for the whole tensor, and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from qied.planning.plan import Scaling

E4M3 = torch.float8_e4m3fn
E4M3_MAX = 448.0
"""The largest E4M3 number; the largest magnitude of a row, or of a tensor, becomes this."""

_SMALLEST_AMAX = 1e-12
"""Rows of zeros are divided by this, and not by zero."""
_CHUNK_ELEMENTS = 1 << 22
"""Casts go by way of FP32 copies of at most this many elements (16 MiB), so that they need little memory."""


@dataclass(frozen=True)
class Quantised:
    """E4M3 ``values`` [rows, columns]; times ``scale`` (FP32, [rows, 1] or [1, 1]) they are the original.

    ``original`` is there only where somebody reads it as well.
    """

    values: Tensor
    scale: Tensor
    original: Tensor | None = None


def quantise(x: Tensor, scaling: Scaling, *, keep: bool = False) -> Quantised:
    """Cast [rows, columns] of BF16 or FP32 to E4M3, and ``keep`` the original; what is no number stays none."""
    values = torch.empty(x.shape, dtype=E4M3, device=x.device)
    scale = torch.linalg.vector_norm(x, torch.inf, dim=-1, keepdim=True).float()
    if scaling == "tensorwise":
        scale = scale.amax(dim=0, keepdim=True)
    scale = scale.clamp_min_(_SMALLEST_AMAX).div_(E4M3_MAX)
    for rows in row_chunks(*x.shape):
        values[rows] = x[rows] / (scale[rows] if scaling == "rowwise" else scale)
    return Quantised(values, scale, x if keep else None)


def dequantise(values: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Return E4M3 values [rows, columns] times their scale FP32 ([rows] or [1]), rounded once to ``dtype``."""
    result = torch.empty(values.shape, dtype=dtype, device=values.device)
    per_row = scale.unsqueeze(1)
    for rows in row_chunks(*values.shape):
        result[rows] = values[rows].float().mul_(per_row[rows] if len(per_row) > 1 else per_row)
    return result


def row_chunks(rows: int, columns: int) -> Iterator[slice]:
    """Cut ``rows`` into slices whose FP32 copies stay small."""
    step = max(1, _CHUNK_ELEMENTS // columns)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
