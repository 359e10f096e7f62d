"""The names of tensors in LoRA files, as trainers and converters write them: which linear, and which part of a change.

A name is read from both its ends: the end says what the tensor is, and the part before it leads to a linear of the
transformer, whatever program put words before it and whether dots or underscores separate them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from qied.planning.layout.block_layout import BlockShape, linears

Part = Literal[
    "down",
    "up",
    "alpha",
    "difference",
    "bias",
    "lokr_w1",
    "lokr_w1_a",
    "lokr_w1_b",
    "lokr_w2",
    "lokr_w2_a",
    "lokr_w2_b",
    "hada_w1_a",
    "hada_w1_b",
    "hada_w2_a",
    "hada_w2_b",
]
"""What one tensor is: a factor of a change of a linear, a whole difference of its weights, or of its bias."""

MODULATION: Final = ("img_mod.1", "txt_mod.1")
"""The linears of a block whose outputs depend on the timestep alone."""
TIMES: Final = ("time_text_embed.timestep_embedder.linear_1", "time_text_embed.timestep_embedder.linear_2")
LAST_NORM: Final = "norm_out.linear"
PROJECTIONS: Final = ("img_in", "txt_in", "proj_out")
"""The linears outside the blocks through which tokens go; the other three depend on the timestep alone."""
OUTSIDE: Final = (*PROJECTIONS, LAST_NORM, *TIMES)

_MODULES: Final = (*(module for linear in linears(BlockShape(1, 1, 1)) for module in linear.modules), *MODULATION)
_FLAT: Final = {module.replace(".", "_"): module for module in _MODULES}
_FLAT_OUTSIDE: Final = {module.replace(".", "_"): module for module in OUTSIDE}
_PLAIN: Final[dict[str, Part]] = {
    "lora_A": "down",
    "lora_B": "up",
    "lora_down": "down",
    "lora_up": "up",
    "lora.down": "down",
    "lora.up": "up",
}
_ADAPTER: Final = r"(?:\.(?!weight$|bias$)[\w-]{1,64}){0,3}"
"""Names of adapters, which PEFT puts behind a factor's name: once for each time that it was wrapped."""
_END: Final = re.compile(
    r"(?P<path>[\w.:/+-]*?)\."
    rf"(?:(?P<plain>lora_A|lora_B|lora_down|lora_up|lora\.down|lora\.up){_ADAPTER}(?:\.weight)?"
    rf"|(?P<factor>lokr_w[12](?:_[ab])?|hada_w[12]_[ab]){_ADAPTER}(?:\.weight)?"
    r"|(?P<alpha>alpha)|(?P<difference>diff)|(?P<bias>diff_b))",
    re.ASCII,
)
_FOREIGN: Final = {
    "DoRA": re.compile(r"\.(?:lora_magnitude_vector|dora_scale|magnitude|w_norm|b_norm)(?:\.|$)"),
    "Tucker decomposition": re.compile(r"\.(?:lora_mid|lokr_t2|hada_t[12])(?:\.|$)"),
    "OFT": re.compile(r"\.(?:oft_\w+|boft_\w+)(?:\.|$)"),
    "GLoRA": re.compile(r"\.(?:a[12]|b[12])\.weight$"),
    "IA3": re.compile(r"\.(?:on_input|ia3_l)(?:\.|$)"),
    "biases of a LoRA's matrices": re.compile(r"\.lora_(?:A|B|down|up)(?:\.[\w-]+)*\.bias$"),
}
"""Ways to train that are not run, by the ends of names."""
_MOST_CHARS: Final = 512
"""Of a name: a file may hold any."""
_BLOCK: Final = re.compile(r"(?:(?P<before>.*)_)?transformer_blocks_(?P<block>\d{1,4})_(?P<module>\w+)", re.ASCII)
_WORDS: Final = frozenset(
    ("base", "model", "transformer", "diffusion", "lora", "unet", "lycoris", "dit", "net", "module", "default", "peft")
)
"""Words that programs put before the names of the linears outside the blocks."""
_NOT_THESE_BLOCKS: Final = frozenset(("single", "double", "te", "te1", "te2", "text", "encoder", "clip", "refiner"))
"""Words before ``transformer_blocks`` that make it another stack of blocks, or another part."""
_TAUGHT: Final = "bundle_emb."
_TEXT_ENCODER: Final = re.compile(
    r"(?:lora_|lycoris_)?(?:te\d?|text_encoders?|clip|cond_stage_model|conditioner|qwen25\w*)_.*"
    r"|.*(?:layers_\d+_(?:self_attn|mlp)_|visual_blocks_\d+_).*",
    re.ASCII,
)
_NORM: Final = re.compile(r"attn_norm_(?:q|k|added_q|added_k)")


@dataclass(frozen=True)
class Key:
    """What one tensor of a LoRA is: a part of a change of ``module`` (diffusers' name).

    ``block`` counts from 0; None for the linears outside the blocks.
    """

    block: int | None
    module: str
    part: Part

    @property
    def path(self) -> str:
        """The linear's name in the model."""
        return linear_path(self.block, self.module)


def linear_path(block: int | None, module: str) -> str:
    """diffusers' name of a linear."""
    return module if block is None else f"transformer_blocks.{block}.{module}"


def parse_key(name: str) -> Key | None:
    """Read the name of a tensor; None if it changes no linear of the transformer, or in a way that is not run."""
    found = _END.fullmatch(name) if len(name) <= _MOST_CHARS else None
    if found is None:
        return None
    if found["plain"]:
        part = _PLAIN[found["plain"]]
    elif found["factor"]:
        part = found["factor"]  # type: ignore[assignment]
    else:
        part = "alpha" if found["alpha"] else "difference" if found["difference"] else "bias"
    place = _linear(found["path"].replace(".", "_"))
    return None if place is None else Key(*place, part)


def _linear(flat: str) -> tuple[int | None, str] | None:
    """Block and module of a linear by its name with underscores."""
    inside = _BLOCK.fullmatch(flat)
    if inside is not None:
        words = (inside["before"] or "").lower().split("_")
        if inside["module"] not in _FLAT or _NOT_THESE_BLOCKS.intersection(words):
            return None
        return int(inside["block"]), _FLAT[inside["module"]]
    for name, module in _FLAT_OUTSIDE.items():
        if flat == name or (flat.endswith(f"_{name}") and _WORDS.issuperset(flat[: -len(name) - 1].split("_"))):
            return None, module
    return None


def is_change(name: str) -> bool:
    """Whether a tensor is part of a LoRA of any kind, for whatever model, by the end of its name."""
    return len(name) <= _MOST_CHARS and (_END.fullmatch(name) is not None or foreign_method(name) is not None)


def foreign_method(name: str) -> str | None:
    """The way to train that a tensor belongs to, of those that are not run; None for any other tensor."""
    return next((method for method, end in _FOREIGN.items() if end.search(name)), None)


def is_of_text_encoder(name: str) -> bool:
    """Whether a tensor of a LoRA changes the text encoder, or is a word that OneTrainer taught it as well."""
    if name.startswith(_TAUGHT) and len(name) <= _MOST_CHARS:
        return True
    return is_change(name) and _TEXT_ENCODER.fullmatch(name.replace(".", "_")) is not None


def is_of_norm(name: str) -> bool:
    """Whether a tensor is a difference of a norm's weights of the transformer."""
    found = _END.fullmatch(name) if len(name) <= _MOST_CHARS else None
    if found is None or not (found["difference"] or found["bias"]):
        return False
    inside = _BLOCK.fullmatch(found["path"].replace(".", "_"))
    if inside is not None:
        return _NORM.fullmatch(inside["module"]) is not None
    return found["path"].rpartition(".")[2].endswith("txt_norm")
