"""Checkpoints with several parts of the built-in model in one file, as ComfyUI saves them."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import Tensor

from qied.resources import builtin_model_folder
from tests.checkpoints.files import E4M3, MARKER, Change, in_flavour, save, stored, wan_name

TEXT = "text_encoders.qwen25_7b.transformer."


def transformer_part(flavour: str = "bf16", *, marked: bool = True) -> dict[str, Tensor]:
    kept, _, _ = in_flavour(stored("transformer"), flavour)
    return {**kept, **({MARKER: torch.zeros(0)} if marked else {})}


def encoder_part(flavour: str = "bf16") -> dict[str, Tensor]:
    kept, _, _ = in_flavour(stored("text_encoder"), flavour)
    old = {"model.visual.": "visual.", "model.language_model.": "model."}
    found: dict[str, Tensor] = {}
    for name, tensor in kept.items():
        before = next((prefix for prefix in old if name.startswith(prefix)), "")
        found[old.get(before, "") + name.removeprefix(before)] = tensor
    return found


def vae_part() -> dict[str, Tensor]:
    return {wan_name(name): tensor for name, tensor in stored("vae").items()}


def write_all_in_one(
    path: Path,
    flavour: str = "bf16",
    *,
    marked: bool = True,
    text: str | None = TEXT,
    vae: str | None = "vae.",
    change: Change = lambda _: None,
) -> Path:
    """Write one; ``text`` and ``vae`` are what the names of these parts begin with, None where they are left out."""
    tensors = {f"model.diffusion_model.{name}": each for name, each in transformer_part(flavour, marked=marked).items()}
    if text is not None:
        encoder = "fp8_plain" if flavour.startswith("fp8") else flavour
        tensors |= {text + name: each for name, each in encoder_part(encoder).items()}
        tensors["text_encoders.qwen25_7b.logit_scale"] = torch.ones(1)
    if vae is not None:
        tensors |= {vae + name: each for name, each in vae_part().items()}
    assert not any(each.dtype == E4M3 for each in tensors.values()) or flavour.startswith("fp8")
    change(tensors)
    save(path, tensors, {})
    return path


def comfyui_of_one_file(root: Path, name: str = "Qwen-Rapid-AIO-v19.safetensors", **file: object) -> Path:
    """A ComfyUI folder with a checkpoint alone, and the vocabulary that ComfyUI brings."""
    for folder in ("diffusion_models", "text_encoders", "vae", "loras"):
        (root / "models" / folder).mkdir(parents=True, exist_ok=True)
    vocabulary = root / "comfy" / "text_encoders" / "qwen25_tokenizer"
    vocabulary.mkdir(parents=True, exist_ok=True)
    for each in (builtin_model_folder() / "tokenizer").iterdir():
        shutil.copy(each, vocabulary / each.name)
    return write_all_in_one(root / "models" / "checkpoints" / name, **file)  # type: ignore[arg-type]
