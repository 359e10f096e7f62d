"""Tensors that lie in one flat buffer, by their names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import torch
from torch import Tensor

from qied.engine.weights.quantise import E4M3
from qied.planning.layout.block_layout import ElementType, LayoutEntry

DTYPES: dict[ElementType, torch.dtype] = {
    "e4m3": E4M3,
    "int8": torch.int8,
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
    "int32": torch.int32,
}


def views(entries: Iterable[tuple[str, int, Sequence[int], torch.dtype]], buffer: Tensor) -> dict[str, Tensor]:
    """Views of ``buffer`` (uint8 [n]) by name; an entry is a name, an offset in bytes, a shape and a type."""
    found = {}
    for name, offset, shape, dtype in entries:
        nbytes = dtype.itemsize * prod(shape)
        found[name] = buffer[offset : offset + nbytes].view(dtype).view(torch.Size(shape))
    return found


def layout_views(entries: Iterable[LayoutEntry], buffer: Tensor) -> dict[str, Tensor]:
    """Views of ``buffer`` (uint8 [n]) as the planner has laid it out."""
    return views(((entry.name, entry.offset, entry.shape, DTYPES[entry.dtype]) for entry in entries), buffer)
