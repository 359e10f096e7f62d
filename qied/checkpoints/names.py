"""Translates tensor names, as different programs write them, to those of the model's own classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, Literal

PartRole = Literal["transformer", "text_encoder", "vae"]
Role = Literal[PartRole, "lora", "pipeline", "checkpoint"]
"""A checkpoint is several parts in one file, a pipeline is a folder of all."""
Rename = Callable[[str], str | None]
"""From a stored name to the model's; None for names that are not its weights."""

MARKER_2511: Final = "__index_timestep_zero__"
"""An empty tensor by which ComfyUI's single files say that they are 2511."""
LANGUAGE_HEAD: Final = "lm_head."
"""Part of a text encoder that no edit uses."""
TEXT_STACKS: Final = ("visual.blocks.", "language_model.layers.")
"""What the names of a Qwen2_5_VLModel's layers begin with, which stream where the model does not stay on the card."""
TOKEN_TABLE: Final = "language_model.embed_tokens"
_COMFYUI_SCALE: Final = "logit_scale"
"""What ComfyUI saves with any text encoder; it is of use with CLIP's alone."""
TRANSFORMER_PREFIXES: Final = (
    *("model.diffusion_model.", "diffusion_model.", "model.transformer.", "transformer."),
    *("model.", "module.", "dit.", "net.", ""),
)
"""What programs put before the names of a transformer's tensors: ComfyUI, diffusers, trainers that save a module."""
_TRANSFORMER: Final = re.compile(
    r"((?:[\w-]{1,40}\.){0,4}?)"
    r"(?:transformer_blocks\.(?:0\.attn\.add_q_proj\.weight|\d{1,4}\.img_mlp\..+)|(?:img|txt)_in\.weight)",
    re.ASCII,
)
_TEXT_PREFIX: Final = re.compile(
    r"((?:text_encoders?|cond_stage_model|conditioner|clip)\.(?:\w+\.){0,3}?)"
    r"(?:model\.(?:language_model\.|visual\.)?)?(?:layers|blocks|embed_tokens|visual)\.",
    re.ASCII,
)
_VAE_PREFIXES: Final = ("vae.", "first_stage_model.")
_UPSAMPLES_A_LEVEL: Final = 4
"""Entries of a level in Wan's flat list of the decoder: three residual blocks, then what doubles the size."""
_NUMBER: Final = re.compile(r"\d{1,4}", re.ASCII)
_WAN_RESIDUAL: Final = {"0": "norm1", "2": "conv1", "3": "norm2", "6": "conv2"}
_WAN_HEAD: Final = {"0": "norm_out", "2": "conv_out"}
_WAN_ENDS: Final = {"conv1": "quant_conv", "conv2": "post_quant_conv"}


def transformer_prefix(names: Iterable[str]) -> str | None:
    """What stands before diffusers' names in a transformer's file; None if it is not a transformer of this family.

    Words that no known program puts there count too, where no tensors have known ones.
    """
    found = dict.fromkeys(match[1] for name in names if (match := _TRANSFORMER.fullmatch(name)) is not None)
    return next((prefix for prefix in (*TRANSFORMER_PREFIXES, *found) if prefix in found), None)


def text_encoder_prefix(names: Iterable[str]) -> str:
    """What stands before a text encoder's names in a checkpoint of several parts, or in one that was cut out of it."""
    return next((match[1] for name in names if (match := _TEXT_PREFIX.match(name)) is not None), "")


def vae_prefix(names: Iterable[str]) -> str:
    """What stands before a VAE's names, as :func:`text_encoder_prefix`."""
    found = list(names)
    return next((prefix for prefix in _VAE_PREFIXES if any(name.startswith(prefix) for name in found)), "")


def transformer_name(stored: str, prefix: str) -> str | None:
    """diffusers' name of a transformer's tensor; None for the marker of 2511, which is not a weight."""
    name = stored.removeprefix(prefix)
    return None if name == MARKER_2511 else name


def text_encoder_name(stored: str) -> str | None:
    """Name in transformers' Qwen2_5_VLModel; None for what is never used, such as the language head.

    Checkpoints from before transformers 5 and ComfyUI's single files keep the language model right under ``model.``.
    """
    if stored.startswith(LANGUAGE_HEAD) or stored == _COMFYUI_SCALE:
        return None
    for prefix in ("model.visual.", "model.language_model."):
        if stored.startswith(prefix):
            return stored.removeprefix("model.")
    return "language_model." + stored.removeprefix("model.") if stored.startswith("model.") else stored


def vae_name(stored: str) -> str:
    """diffusers' name of a VAE's tensor, from its own or from Wan 2.1's, which single files have."""
    parts = stored.split(".")
    if parts[0] in _WAN_ENDS:
        return ".".join([_WAN_ENDS[parts[0]], *parts[1:]])
    if len(parts) < 3 or parts[0] not in ("encoder", "decoder"):
        return stored
    side, section, rest = parts[0], parts[1], parts[2:]
    if section == "conv1":
        return ".".join([side, "conv_in", *rest])
    if section == "head":
        return ".".join([side, _WAN_HEAD.get(rest[0], rest[0]), *rest[1:]])
    if section == "middle":
        return ".".join([side, "mid_block", *_middle(rest)])
    if section == "downsamples":
        return ".".join([side, "down_blocks", rest[0], *_residual(rest[1:])])
    if section == "upsamples" and _NUMBER.fullmatch(rest[0]):
        level, place = divmod(int(rest[0]), _UPSAMPLES_A_LEVEL)
        within = ["upsamplers", "0"] if place == _UPSAMPLES_A_LEVEL - 1 else ["resnets", str(place)]
        return ".".join([side, "up_blocks", str(level), *within, *_residual(rest[1:])])
    return stored


def is_of_wan(names: Iterable[str]) -> bool:
    """Whether a VAE's tensors have Wan's names."""
    return any(re.match(r"(encoder|decoder)\.(middle|head|downsamples|upsamples)\.", name) for name in names)


def _middle(rest: list[str]) -> list[str]:
    """Entries 0 and 2 are residual blocks, the one between them is the attention."""
    if rest[0] == "1":
        return ["attentions", "0", *rest[1:]]
    return ["resnets", "0" if rest[0] == "0" else "1", *_residual(rest[1:])]


def _residual(rest: list[str]) -> list[str]:
    if rest[:1] == ["shortcut"]:
        return ["conv_shortcut", *rest[1:]]
    if rest[:1] == ["residual"] and len(rest) > 1:
        return [_WAN_RESIDUAL.get(rest[1], rest[1]), *rest[2:]]
    return rest


def is_streamed_text(name: str) -> bool:
    """Whether a tensor of a streamed Qwen2_5_VLModel stays in host memory: those of layers, and token embeddings."""
    return name.startswith((*TEXT_STACKS, f"{TOKEN_TABLE}."))
