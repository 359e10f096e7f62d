"""One weight file read as a part of a model: its tensors by the model's names, and what they say about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from qied_client.errors import ModelUnsupported

from qied.checkpoints import all_in_one, names
from qied.checkpoints.llama import names as llama_names
from qied.checkpoints.names import PartRole
from qied.checkpoints.pipeline_folder import SHARD, STEMS, pipeline_evidence, sets_zero_cond_t
from qied.checkpoints.report import Layout
from qied.checkpoints.versions import MARKED, UNKNOWN, Evidence, named_model
from qied.loras.keys import is_change
from qied.weights.foreign_formats import check_markers, foreign_format
from qied.weights.header import Header, read_header
from qied.weights.problems import BadFile
from qied.weights.stored import Precision, Stored, as_marked, layer_markers, precision_of, stored_tensors

_OTHER_MODELS: Final = {
    "Qwen-Image-2.1": ("txt_in.text_norm.weight",),
    "Wan": ("blocks.0.cross_attn.norm_q.weight", "head.modulation"),
    "Flux": ("double_blocks.0.img_attn.norm.key_norm.scale", "single_transformer_blocks.0.norm.linear.weight"),
    "Stable Diffusion": ("input_blocks.0.0.weight", "down_blocks.0.attentions.0.transformer_blocks.0.norm1.weight"),
    "Z-Image": ("noise_refiner.0.attention_norm1.weight", "cap_embedder.0.weight"),
}
"""Tensors that other models have, which people keep in the same folders."""
_PLAIN_FOLDERS: Final = ("diffusion_models", "unet", "checkpoints", "transformer", "models")
"""Names that say nothing of what lies in them."""
_OWN_ARCHITECTURES: Final = ("qwen_image", *(name for names in llama_names.ARCHITECTURES.values() for name in names))
USE_2511: Final = "Use Qwen-Image-Edit-2511: qied pull qwen-image-edit-2511."


@dataclass(frozen=True)
class PartFile:
    """A transformer, text encoder or VAE, or one of the files (``is_shard``) that hold it together.

    ``tensors`` are by the names of the model's own classes. ``evidence``: which model a transformer is.
    ``half``: which half of a text encoder it is, where llama.cpp cut it in two. ``sections``: the
    parts of a file that holds several of them; the header has this part's tensors alone.
    ``steps``: those that it was distilled to by what was merged in, by the file's name; None for a plain one.
    ``keeps_schedule``: it is distilled, but runs on the plain noise schedule.
    """

    path: Path
    role: PartRole
    layout: Layout
    tensors: Mapping[str, Stored]
    header: Header
    evidence: Evidence = UNKNOWN
    steps: int | None = None
    keeps_schedule: bool = False
    half: llama_names.Half | None = None
    sections: tuple[PartRole, ...] = ()

    @property
    def is_shard(self) -> bool:
        """Whether other files hold the rest."""
        return SHARD.search(self.path.name) is not None

    @property
    def nbytes(self) -> int:
        """Bytes of the file, or of this part of it."""
        data = sum(entry.nbytes for entry in self.header.tensors.values())
        return data if self.sections else self.header.data_start + data

    @property
    def precision(self) -> Precision | None:
        return precision_of(self.tensors)


def read_part(path: Path, role: PartRole | None = None) -> PartFile:
    """Read a file's header as a part of a model; raises BadFile if it is not one, or not one of the given ``role``."""
    header = read_header(path)
    found = part_role(header)
    if found is None:
        raise BadFile(*_unknown(header))
    if sections := all_in_one.sections(header.tensors):
        return _section(path, header, role or found, sections)
    if role is not None and found != role:
        raise BadFile(f"it is a {WORDS[found]}, not a {WORDS[role]}", f"Name the file of a {WORDS[role]}.")
    return _part(path, header, found, stored_tensors(header))


def _section(path: Path, header: Header, role: PartRole, sections: Mapping[PartRole, str]) -> PartFile:
    """One part of a file that holds several."""
    if role not in sections:
        word = WORDS[role]
        raise BadFile(f"it holds several parts of a model, but no {word}", f"Name the file of a {word}.")
    prefix = sections[role]
    own = {name: entry for name, entry in header.tensors.items() if name.startswith(prefix)}
    header = replace(header, tensors=own)
    stored = {name.removeprefix(prefix): tensor for name, tensor in stored_tensors(header).items()}
    return replace(_part(path, header, role, stored), sections=tuple(sections))


def _part(path: Path, header: Header, found: PartRole, stored: Mapping[str, Stored]) -> PartFile:
    layout: Layout
    if found == "transformer":
        return _transformer(path, header, stored)
    if prefix := names.text_encoder_prefix(stored) if found == "text_encoder" else names.vae_prefix(stored):
        stored = {name.removeprefix(prefix): tensor for name, tensor in stored.items()}
    half = llama_names.half_of(stored) if found == "text_encoder" else None
    if half is not None:
        tensors = llama_names.named_as_transformers(stored, half)
        return PartFile(path, "text_encoder", "gguf", tensors, header, half=half)
    if found == "text_encoder":
        layout = _encoder_layout(path, header, stored)
        return PartFile(path, found, layout, _by_name(stored, names.text_encoder_name), header)
    layout = "gguf" if header.format == "gguf" else "comfyui" if names.is_of_wan(stored) else "diffusers"
    return PartFile(path, found, layout, _by_name(stored, names.vae_name), header)


def usable_part(path: Path, role: PartRole) -> PartFile:
    """Read a file that is to be run; raises ModelUnsupported where it is damaged, or in a format that is not run."""
    try:
        part = read_part(path, role)
        markers = check_markers(path, part.header, layer_markers(part.tensors))
        part = replace(part, tensors={name: as_marked(one, markers) for name, one in part.tensors.items()})
    except BadFile as problem:
        raise ModelUnsupported(f"{path} cannot be used: {problem.what}.", problem.remedy) from problem
    return part


WORDS: Final[dict[str, str]] = {"transformer": "transformer", "text_encoder": "text encoder", "vae": "VAE"}


def _evidence(path: Path, header: Header, marked: bool) -> Evidence:
    """What shows which model a transformer is: a tensor of its own, diffusers' configuration next to it, or its name.

    A configuration counts for files that diffusers named itself: in ComfyUI's folders any may lie next to any file.
    """
    if marked:
        return Evidence(MARKED, "tensor")
    if path.name.startswith(STEMS["transformer"]):
        of_folder = pipeline_evidence(path.parent.parent)
        if of_folder.version is not None:
            return of_folder
        if sets_zero_cond_t(path.parent):
            return Evidence(MARKED, "configuration")
    folder = path.parent.name if path.parent.name not in _PLAIN_FOLDERS else ""
    version = named_model(path.name, header.metadata, folder)
    return Evidence(version, "name") if version is not None else UNKNOWN


def part_role(header: Header) -> PartRole | None:
    """Which part of a model a file is; None for anything else, LoRAs included."""
    tensors = header.tensors
    if any(_has(tensors, sign) for signs in _OTHER_MODELS.values() for sign in signs):
        return None
    if any(is_change(name) for name in tensors):
        return None
    if names.transformer_prefix(tensors) is not None:
        return "transformer"
    half = llama_names.half_of(tensors)
    if half is not None:
        return "text_encoder" if _architecture(header) in llama_names.ARCHITECTURES[half] else None
    if any(re.search(r"(^|\.)layers\.\d+\.self_attn\.|(^|\.)visual\.blocks\.\d+\.", name) for name in tensors):
        return "text_encoder"
    start = len(names.vae_prefix(tensors))
    if any(re.match(r"(en|de)coder\.(conv_in|conv1|mid_block|middle)\.", name[start:]) for name in tensors):
        return "vae"
    return None


def _architecture(header: Header) -> str:
    """What a GGUF file says that it is."""
    return header.metadata.get("general.architecture", "")


def _has(tensors: Mapping[str, object], name: str) -> bool:
    return any(prefix + name in tensors for prefix in names.TRANSFORMER_PREFIXES)


def _unknown(header: Header) -> tuple[str, str]:
    for model, signs in _OTHER_MODELS.items():
        if any(_has(header.tensors, sign) for sign in signs):
            return f"it belongs to another model, {model}", USE_2511
    if any(is_change(name) or "lora" in name for name in header.tensors):
        return "it is a LoRA, not a part of a model", "Put it into a folder that model.loras lists."
    if header.format == "safetensors" and (foreign := foreign_format(header)) is not None:
        return foreign.what, foreign.remedy
    if header.format == "gguf" and _architecture(header) and llama_names.half_of(header.tensors) is not None:
        own = ", ".join(llama_names.ARCHITECTURES["language"])
        what = f"it is a language model that calls itself {_architecture(header)[:40]!r}; Qwen2.5-VL should say {own}"
        return what, "Use a GGUF file of Qwen2.5-VL-7B-Instruct that was made for llama.cpp."
    if header.format == "gguf" and _architecture(header) not in ("", *_OWN_ARCHITECTURES):
        return f"it is a GGUF file of the architecture {_architecture(header)[:40]!r}, not of Qwen-Image", USE_2511
    return "it is not a part of Qwen-Image-Edit", USE_2511


def _transformer(path: Path, header: Header, stored: Mapping[str, Stored]) -> PartFile:
    prefix = names.transformer_prefix(stored) or ""
    tensors = _by_name(stored, lambda name: names.transformer_name(name, prefix))
    marked = any(name.removeprefix(prefix) == names.MARKER_2511 for name in stored)
    steps = all_in_one.merged_steps(path.name, header.metadata)
    keeps = all_in_one.keeps_schedule(path.name, header.metadata)
    layout: Layout = "diffusers"
    precision = precision_of(tensors)
    if header.format == "gguf":
        layout = "gguf"
    elif precision == "fp8_lightx2v":
        layout = "lightx2v"
    elif prefix or marked or (precision or "").startswith(("fp8", "int8", "nvfp4", "mxfp8")):
        layout = "comfyui"
    return PartFile(path, "transformer", layout, tensors, header, _evidence(path, header, marked), steps, keeps)


def _encoder_layout(path: Path, header: Header, stored: Mapping[str, Stored]) -> Layout:
    """transformers names its files, and ComfyUI keeps the parts right under ``model.`` and ``visual.``."""
    if header.format == "gguf":
        return "gguf"
    new_names = any(name.startswith(("model.visual.", "model.language_model.")) for name in stored)
    return "diffusers" if new_names or SHARD.search(path.name) or path.name == "model.safetensors" else "comfyui"


def _by_name(stored: Mapping[str, Stored], rename: names.Rename) -> dict[str, Stored]:
    found: dict[str, Stored] = {}
    for key, tensor in stored.items():
        name = rename(key)
        if name is None:
            continue
        if name in found:
            raise BadFile(f"{key[:120]!r} and {found[name].key[:120]!r} are the same tensor, {name[:120]!r}")
        found[name] = tensor
    return found
