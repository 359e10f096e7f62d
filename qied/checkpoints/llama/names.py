"""Text encoders as llama.cpp keeps them: the language model in one GGUF file, the vision tower in another ("mmproj").

Its converter cuts what transformers has in one piece: Q, K and V of the vision tower, and the two frames of a patch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final, Literal

from qied.weights.header import TensorEntry
from qied.weights.problems import BadFile
from qied.weights.stored import Stored

Half = Literal["language", "vision"]
"""Which half of a text encoder a file is."""
ARCHITECTURES: Final[dict[Half, tuple[str, ...]]] = {"language": ("qwen2vl",), "vision": ("clip",)}
"""What such files call themselves in ``general.architecture``."""
_LANGUAGE: Final = re.compile(r"blk\.(\d{1,4})\.(\w+)\.(weight|bias)", re.ASCII)
_LANGUAGE_LAYER: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LANGUAGE_ENDS: Final = {
    "token_embd.weight": "language_model.embed_tokens.weight",
    "output_norm.weight": "language_model.norm.weight",
}
_UNUSED: Final = ("output.weight", "rope_freqs.weight")
"""The language head, which no edit uses, and factors of other models."""
_VISION: Final = re.compile(r"v\.blk\.(\d{1,4})\.(\w+)\.(weight|bias)", re.ASCII)
_VISION_LAYER: Final = {
    "ln1": "norm1",
    "ln2": "norm2",
    "attn_qkv": "attn.qkv",
    "attn_out": "attn.proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CUT: Final = ("attn_q", "attn_k", "attn_v")
_MERGER: Final = re.compile(r"mm\.([02])\.(weight|bias)", re.ASCII)
_FRAMES: Final = ("v.patch_embd.weight", "v.patch_embd.weight.1")
_PATCHES: Final = "visual.patch_embed.proj.weight"


def half_of(names: Iterable[str]) -> Half | None:
    """Which half has tensors of these names; None for any other file."""
    for name in names:
        if (found := _LANGUAGE.fullmatch(name)) is not None and found[2] in _LANGUAGE_LAYER:
            return "language"
        if _VISION.fullmatch(name) is not None:
            return "vision"
    return None


def named_as_transformers(stored: Mapping[str, Stored], half: Half) -> dict[str, Stored]:
    """The tensors of a half by their names in transformers' Qwen2_5_VLModel, cut ones put together; raises BadFile."""
    return dict(_language(stored) if half == "language" else _vision(stored))


def belongs_to(half: Half, name: str) -> bool:
    """Whether a tensor of a Qwen2_5_VLModel is one of that half."""
    return name.startswith("visual.") == (half == "vision")


def _language(stored: Mapping[str, Stored]) -> Iterator[tuple[str, Stored]]:
    for name, tensor in stored.items():
        found = _LANGUAGE.fullmatch(name)
        if found is not None and found[2] in _LANGUAGE_LAYER:
            yield f"language_model.layers.{int(found[1])}.{_LANGUAGE_LAYER[found[2]]}.{found[3]}", tensor
        elif name not in _UNUSED:
            yield _LANGUAGE_ENDS.get(name, name), tensor


def _vision(stored: Mapping[str, Stored]) -> Iterator[tuple[str, Stored]]:
    cut: dict[str, dict[str, Stored]] = {}
    for name, tensor in stored.items():
        found = _VISION.fullmatch(name)
        merger = _MERGER.fullmatch(name)
        if name in _FRAMES:
            cut.setdefault(_PATCHES, {})[name] = tensor
        elif merger is not None:
            yield f"visual.merger.mlp.{merger[1]}.{merger[2]}", tensor
        elif name == "v.post_ln.weight":
            yield "visual.merger.ln_q.weight", tensor
        elif found is None:
            yield name, tensor
        elif found[2] in _CUT:
            cut.setdefault(f"visual.blocks.{int(found[1])}.attn.qkv.{found[3]}", {})[found[2]] = tensor
        else:
            part = _VISION_LAYER.get(found[2], found[2])
            yield f"visual.blocks.{int(found[1])}.{part}.{found[3]}", tensor
    for name, pieces in cut.items():
        yield name, _joined(name, pieces)


def _joined(name: str, found: Mapping[str, Stored]) -> Stored:
    """The pieces of one tensor as one; Q, K and V on top of each other, frames as the third dimension."""
    wanted = _FRAMES if name == _PATCHES else _CUT
    missing = [piece for piece in wanted if piece not in found]
    if missing:
        raise BadFile(f"it lacks {missing[0]!r}, a piece of {name!r}")
    pieces = tuple(found[piece] for piece in wanted)
    shapes = {piece.entry.shape for piece in pieces}
    if len(shapes) > 1 or not (shape := pieces[0].entry.shape):
        raise BadFile(f"the pieces of {name!r} have the shapes {', '.join(str(list(one)) for one in sorted(shapes))}")
    begin, nbytes = pieces[0].entry.begin, sum(piece.entry.nbytes for piece in pieces)
    count = len(pieces)
    whole = (*shape[:2], count, *shape[2:]) if name == _PATCHES else (count * shape[0], *shape[1:])
    entry = TensorEntry(pieces[0].entry.dtype, whole, begin, begin + nbytes)
    return replace(pieces[0], entry=entry, pieces=pieces, joined="frames" if name == _PATCHES else "rows")
