"""GGUF files for tests, written by the `gguf` package, and random blocks of every type."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np

KINDS = ("Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_XS", "IQ4_NL")
"""Types of blocks that are expanded."""
MADE_BY_THE_PACKAGE = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
"""Those that the package can make of numbers."""
_HALVES = {
    **{"Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "IQ4_NL": (0,), "IQ4_XS": (0,)},
    **{"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)},
}
"""Bytes of a block at which a number in FP16 starts: the only ones that not every value is valid for."""


def quantisation(kind: str) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType[kind]


def random_blocks(kind: str, rows: int, columns: int, rng: np.random.Generator, largest: float = 0.01) -> np.ndarray:
    """Rows of valid blocks, uint8 [rows, bytes of a row], with scales of up to ``largest``."""
    numbers, nbytes = gguf.GGML_QUANT_SIZES[quantisation(kind)]
    count = rows * columns // numbers
    blocks = rng.integers(0, 256, (count, nbytes), dtype=np.uint8)
    for start in _HALVES[kind]:
        scales = rng.uniform(-largest, largest, (count, 1)).astype(np.float16)
        blocks[:, start : start + 2] = scales.view(np.uint8)
    return blocks.reshape(rows, -1)


def meant(kind: str, stored: np.ndarray) -> np.ndarray:
    """The FP32 numbers that the package expands rows of blocks to."""
    return gguf.dequantize(stored, quantisation(kind))


def write_gguf(
    path: Path,
    tensors: Mapping[str, tuple[str, np.ndarray]],
    architecture: str = "qwen_image",
    arrays: Mapping[str, list[object]] | None = None,
) -> Path:
    """Write a file with tensors by name: their type, and their numbers or, of blocks, their rows of bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    for key, values in (arrays or {}).items():
        writer.add_array(key, values)
    for name, (kind, array) in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(array), raw_dtype=quantisation(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
