"""Casts to FP8 (E4M3) with a scale for each row or for the whole tensor, to INT8 with one for each row, and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from qied.engine.weights.rotation import rotate
from qied.planning.layout.memory import CAST_BYTES, FP32
from qied.planning.plan import Scaling

E4M3 = torch.float8_e4m3fn
E4M3_MAX = 448.0
"""The largest E4M3 number; the largest magnitude of a row, or of a tensor, becomes this."""

INT8_MAX = 127.0
"""The largest magnitude of a row becomes this; -128 is left out, so that both signs are alike."""

_SMALLEST_AMAX = 1e-12
"""Rows of zeros are divided by this, and not by zero."""
_CHUNK_ELEMENTS = CAST_BYTES // FP32
"""Casts go by way of FP32 copies of at most this many elements, so that they need little memory."""


@dataclass(frozen=True)
class Quantised:
    """E4M3 or INT8 ``values`` [rows, columns]; times ``scale`` (FP32, [rows, 1] or [1, 1]) they are the original."""

    values: Tensor
    scale: Tensor


def quantise(x: Tensor, scaling: Scaling) -> Quantised:
    """Cast [rows, columns] of BF16 or FP32 to E4M3; NaN stays NaN."""
    values = torch.empty(x.shape, dtype=E4M3, device=x.device)
    scale = torch.empty(len(x) if scaling == "rowwise" else 1, device=x.device)
    quantise_into(x, scaling, values, scale)
    return Quantised(values, scale.unsqueeze(1))


def quantise_into(x: Tensor, scaling: Scaling, values: Tensor, scale: Tensor) -> None:
    """Cast [rows, columns] of BF16 or FP32 to E4M3 ``values``; ``scale`` is FP32 [rows], or [at least 1] per tensor."""
    largest = torch.linalg.vector_norm(x, torch.inf, dim=-1).float()
    if scaling == "tensorwise":
        largest, scale = largest.amax(dim=0, keepdim=True), scale[:1]
    torch.div(largest.clamp_min_(_SMALLEST_AMAX), E4M3_MAX, out=scale)
    per_row = scale.unsqueeze(1)
    for rows in row_chunks(*x.shape):
        values[rows] = x[rows] / (per_row[rows] if scaling == "rowwise" else per_row)


def rotate_to_int8(x: Tensor, group: int) -> Quantised:
    """Rotate [rows, columns] of BF16 or FP32 in groups of ``group``; cast them to INT8 with a scale for each row."""
    values = torch.empty(x.shape, dtype=torch.int8, device=x.device)
    scale = torch.empty(len(x), device=x.device)
    rotate_to_int8_into(x, group, values, scale)
    return Quantised(values, scale.unsqueeze(1))


def rotate_to_int8_into(x: Tensor, group: int, values: Tensor, scale: Tensor) -> None:
    """Like :func:`rotate_to_int8`, to ``values`` and ``scale`` FP32 [rows].

    INT8 has no NaN: a row with one gets NaN as its scale.
    """
    for rows in row_chunks(*x.shape):
        rotated = rotate(x[rows].float(), group)
        torch.div(rotated.abs().amax(1).clamp_min_(_SMALLEST_AMAX), INT8_MAX, out=scale[rows])
        values[rows] = (rotated / scale[rows].unsqueeze(1)).round_().nan_to_num_(0.0)


def dequantise(values: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Return E4M3 or INT8 values [rows, columns] times their scale FP32 ([rows] or [1]), rounded once to ``dtype``."""
    result = torch.empty(values.shape, dtype=dtype, device=values.device)
    dequantise_into(values, scale, result)
    return result


def dequantise_into(values: Tensor, scale: Tensor, result: Tensor) -> None:
    """Like :func:`dequantise`, to ``result`` [rows, columns]."""
    per_row = scale.unsqueeze(1)
    for rows in row_chunks(*values.shape):
        result[rows] = values[rows].float().mul_(per_row[rows] if len(per_row) > 1 else per_row)


def row_chunks(rows: int, columns: int) -> Iterator[slice]:
    """Cut ``rows`` into slices whose FP32 copies stay small."""
    step = max(1, _CHUNK_ELEMENTS // columns)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
