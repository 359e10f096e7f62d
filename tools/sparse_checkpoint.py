"""Weight files of any size whose headers are whole and whose data takes no place on the disk: zeros nobody wrote."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path

from qied.weights.header import BITS

Entries = Mapping[str, tuple[str, tuple[int, ...]]]
"""Type, as the format names it, and shape of each tensor."""


def sparse_file(path: Path, entries: Entries, texts: Mapping[str, str]) -> Path:
    """Write the header of a safetensors file with these tensors and ``texts``, and a hole where their data would be."""
    header: dict[str, object] = {"__metadata__": dict(texts)} if texts else {}
    end = 0
    for name, (dtype, shape) in entries.items():
        begin, end = end, end + prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # as the library does it
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path
