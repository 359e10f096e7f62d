"""A GGUF file of the full transformer with random weights: real bytes, which a plan may stream as they are."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import BinaryIO

import torch

from qied.weights.gguf_types import BLOCKS
from qied.weights.header import TensorEntry, read_header
from tests.checkpoints.sparse_files import gguf_transformer
from tools.gguf_quantise import quantise_blocks
from tools.sparse_checkpoint import sparse_gguf

_ROWS = 64
"""Rows of numbers that are drawn; matrices repeat them, since memory does not depend on values."""


def random_gguf(path: Path, kind: str, layers: int | None = None) -> Path:
    """Write a file whose matrices are of a ``kind``, of its first ``layers`` blocks if not of all: 12 GB in Q4_K."""
    entries = {
        name: entry
        for name, entry in gguf_transformer(kind).items()
        if layers is None or not name.startswith("transformer_blocks.") or int(name.split(".")[1]) < layers
    }
    header = read_header(sparse_gguf(path, entries, "qwen_image"))
    with path.open("r+b") as file:
        for name, entry in header.tensors.items():
            # Biases stay the zeros that the hole reads as.
            if not name.endswith(".bias"):
                file.seek(header.data_start + entry.begin)
                _write(file, entry)
    return path


def _write(file: BinaryIO, entry: TensorEntry) -> None:
    if len(entry.shape) < 2:
        file.write(torch.ones(entry.shape).numpy().tobytes())
        return
    rows, inputs = entry.shape
    some = _some_rows(inputs, entry.dtype)
    whole, rest = divmod(rows, _ROWS)
    for _ in range(whole):
        file.write(some)
    file.write(some[: len(some) // _ROWS * rest])


@cache
def _some_rows(inputs: int, kind: str) -> bytes:
    """The bytes of ``_ROWS`` rows of numbers that keep the size of what goes through them."""
    numbers = torch.randn((_ROWS, inputs), generator=torch.Generator().manual_seed(inputs)) * 0.5 / math.sqrt(inputs)
    return (quantise_blocks(numbers, kind) if kind in BLOCKS else numbers).numpy().tobytes()
