"""Weight files of any size whose headers are whole and whose data takes no place on the disk: zeros nobody wrote."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

from qied.weights.gguf_types import TYPES
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


def sparse_gguf(path: Path, entries: Entries, architecture: str, words: Sequence[str] = ()) -> Path:
    """Write the directory of a GGUF file with these tensors, and the ``words`` of a vocabulary; the data is a hole."""
    numbers = {kind.name: number for number, kind in TYPES.items()}
    values = [_text("general.architecture") + struct.pack("<I", 8) + _text(architecture)]
    if words:
        array = struct.pack("<IQ", 8, len(words)) + b"".join(map(_text, words))
        values.append(_text("tokenizer.ggml.tokens") + struct.pack("<I", 9) + array)
    infos, end = [], 0
    for name, (dtype, shape) in entries.items():
        sides = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        infos.append(_text(name) + sides + struct.pack("<IQ", numbers[dtype], end))
        kind = TYPES[numbers[dtype]]
        end += -(-prod(shape) // kind.numbers * kind.nbytes // 32) * 32
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(values)) + b"".join((*values, *infos))
    head += bytes(-len(head) % 32)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + end)
    return path


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data
