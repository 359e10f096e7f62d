"""Headers of the real model's files in their full size, as the programs write them that people have them from."""

from __future__ import annotations

import json

from qied.checkpoints.expected import expected_shapes
from qied.planning.profiles.model_profile import shipped_profiles
from qied.weights.block_scales import GROUPS, tiled
from qied.weights.gguf_types import TYPES
from tests.checkpoints.files import MARKER, wan_name

REAL = "qwen-image-edit-2511"
STACKS = ("transformer_blocks.", ".layers.", "visual.blocks.")
Entries = dict[str, tuple[str, tuple[int, ...]]]


GGUF_FLAVOURS = {"gguf_bf16": "BF16", "gguf_q8_0": "Q8_0", "gguf_q4_k": "Q4_K"}
"""Transformers as GGUF files, by the type of their matrices."""
_ALL_IN_ONE = {"transformer": "model.diffusion_model.", "text_encoder": "text_encoders.qwen25_7b.", "vae": "vae."}


def gguf_transformer(kind: str) -> Entries:
    """Types and shapes of a transformer's GGUF file: matrices of a ``kind``, where rows can be cut into its blocks."""
    shapes = expected_shapes(shipped_profiles()[REAL], "transformer")
    numbers = next(each.numbers for each in TYPES.values() if each.name == kind)
    return {
        name: (kind if len(shape) == 2 and shape[1] % numbers == 0 else "F32", shape) for name, shape in shapes.items()
    }


def all_in_one(flavour: str) -> tuple[Entries, dict[str, str]]:
    """Types and shapes of a checkpoint with all parts, in the same precision but for the VAE."""
    found: Entries = {}
    for part, prefix in _ALL_IN_ONE.items():
        entries, _ = stored_as(part, "bf16" if part == "vae" else flavour)
        found |= {prefix + name: entry for name, entry in entries.items() if not name.startswith("lm_head")}
    return found, {}


def stored_as(part: str, flavour: str) -> tuple[Entries, dict[str, str]]:
    """Types and shapes of the tensors of a single file of the real model, and the texts in its header."""
    shapes = expected_shapes(shipped_profiles()[REAL], part)  # type: ignore[arg-type]
    found: Entries = {}
    layers: dict[str, object] = {}
    for name, shape in shapes.items():
        layer, inside = name.removesuffix(".weight"), any(stack in name for stack in STACKS)
        is_matrix = inside and name.endswith(".weight") and len(shape) == 2
        if flavour == "fp8_plain":
            found[name] = ("F8_E4M3", shape)
        elif flavour == "bf16" or not is_matrix:
            found[name] = ("BF16", shape)
        elif flavour in GROUPS:
            rows, inputs = shape
            packed = flavour == "nvfp4"
            found[name] = ("U8", (rows, inputs // 2)) if packed else ("F8_E4M3", shape)
            found[f"{layer}.weight_scale"] = ("F8_E4M3" if packed else "U8", tiled(rows, inputs // GROUPS[flavour]))
            layers[layer] = {"format": flavour}
            if packed:
                found[f"{layer}.weight_scale_2"] = ("F32", ())
        elif flavour == "int8_convrot":
            found[name] = ("I8", shape)
            found[f"{layer}.weight_scale"] = ("F32", (shape[0], 1))
            layers[layer] = {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 256}
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
    return found, {"_quantization_metadata": json.dumps({"layers": layers})} if layers else {}


def _old_name(name: str) -> str:
    return name.replace("language_model.", "model.", 1)
