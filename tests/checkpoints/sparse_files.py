"""Headers of the real model's files in their full size, as the programs write them that people have them from."""

from __future__ import annotations

from qied.checkpoints.expected import expected_shapes
from qied.planning.model_profile import shipped_profiles
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
