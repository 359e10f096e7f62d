"""Files of the real model's full size whose headers are whole and whose data takes no place on the disk."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path

from qied.checkpoints.completeness import expected_shapes
from qied.planning.model_profile import shipped_profiles
from qied.weights.header import BITS
from tests.checkpoints.files import MARKER, wan_name

REAL = "qwen-image-edit-2511"
STACKS = ("transformer_blocks.", ".layers.", "visual.blocks.")
Entries = dict[str, tuple[str, tuple[int, ...]]]


def stored_as(part: str, flavour: str) -> tuple[Entries, dict[str, str]]:
    """Types and shapes of the tensors of a single file of the real model, and the texts in its header."""
    shapes = expected_shapes(shipped_profiles()[REAL], part)  # type: ignore[arg-type]
    found: Entries = {}
    for name, shape in shapes.items():
        layer, inside = name.removesuffix(".weight"), any(stack in name for stack in STACKS)
        is_matrix = inside and name.endswith(".weight") and len(shape) == 2
        if flavour == "fp8_plain":
            found[name] = ("F8_E4M3", shape)
        elif flavour == "bf16" or not is_matrix:
            found[name] = ("BF16", shape)
        else:
            found[name] = ("F8_E4M3", shape)
            scale = "scale_weight" if flavour == "fp8_scaled" else "weight_scale"
            found[f"{layer}.{scale}"] = ("F32", (shape[0], 1) if flavour == "fp8_lightx2v" else ())
            if flavour == "fp8_comfy":
                found[f"{layer}.comfy_quant"] = ("U8", (27,))
    if part == "transformer":
        found[MARKER] = ("F32", (0,))
    if part == "text_encoder":
        found = {_old_name(name): entry for name, entry in found.items()}
        found["lm_head.weight"] = ("BF16", (152064, 3584))
    if part == "vae":
        found = {wan_name(name): entry for name, entry in found.items()}
    if flavour == "fp8_scaled":
        found["scaled_fp8"] = ("F8_E4M3", (0,))
    return found, {}


def _old_name(name: str) -> str:
    return name.replace("language_model.", "model.", 1)


def sparse_file(path: Path, entries: Mapping[str, tuple[str, tuple[int, ...]]], texts: Mapping[str, str]) -> Path:
    """Write the header of a file with these tensors, and zeros that take no place."""
    header: dict[str, object] = {"__metadata__": dict(texts)} if texts else {}
    end = 0
    for name, (dtype, shape) in entries.items():
        begin, end = end, end + prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path
