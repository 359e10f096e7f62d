"""Models on disk as people have them, without their data: snapshots of the hub, and ComfyUI's folders."""

from __future__ import annotations

import json
from pathlib import Path

from qied.planning.profiles.model_profile import versions
from tests.checkpoints.files import MARKER
from tests.checkpoints.sparse_files import stored_as
from tools.sparse_checkpoint import sparse_file

REPOSITORY = versions()["2511"].repository


TRANSFORMER, ENCODER, VAE = (
    stored_as(part, flavour)
    for part, flavour in (("transformer", "bf16"), ("text_encoder", "fp8_scaled"), ("vae", "bf16"))
)


COMPONENTS = ("transformer", "text_encoder", "vae", "scheduler", "tokenizer", "processor")


SHARDS = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]


INDEX = "diffusion_pytorch_model.safetensors.index.json"


CONFIGS = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}


def write(path: Path, content: object = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def diffusers_folder(folder: Path) -> Path:
    """A whole checkpoint with two shards of the transformer and empty weights."""
    parts = {name: ["library", "Class"] for name in COMPONENTS}
    write(folder / "model_index.json", {"_class_name": "QwenImageEditPlusPipeline", **parts})
    for name in COMPONENTS:
        config = "preprocessor_config.json" if name == "processor" else CONFIGS.get(name, "config.json")
        write(folder / name / config, {"zero_cond_t": True} if name == "transformer" else {})
    index = {"weight_map": {"first": SHARDS[0], "second": SHARDS[1]}}
    write(folder / "transformer" / INDEX, index)
    for shard in SHARDS:
        write(folder / "transformer" / shard)
    write(folder / "text_encoder" / "model.safetensors")
    write(folder / "vae" / "diffusion_pytorch_model.safetensors")
    return folder


def snapshot(cache: Path, commit: str = "abc", main: bool = True, repository: str = REPOSITORY) -> Path:
    stored = cache / f"models--{repository.replace('/', '--')}"
    if main:
        write(stored / "refs" / "main", commit)
    return diffusers_folder(stored / "snapshots" / commit)


def comfyui(root: Path, transformer: str = "qwen_image_edit_2511_bf16.safetensors") -> Path:
    """A ComfyUI folder with the real model, as headers without data."""
    models = root / "models"
    sparse_file(models / "text_encoders" / "qwen_2.5_vl_7b_fp8_scaled.safetensors", *ENCODER)
    sparse_file(models / "vae" / "qwen_image_vae.safetensors", *VAE)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        write(root / "comfy" / "text_encoders" / "qwen25_tokenizer" / name, "x")
    return sparse_file(models / "diffusion_models" / transformer, *TRANSFORMER)


def diffusion_models(home: Path, **files: bool) -> Path:
    """A ComfyUI with these transformers; those with True say themselves that they are 2511."""
    path = comfyui(home / "ComfyUI", "gone.safetensors")
    path.unlink()
    entries = {name: entry for name, entry in TRANSFORMER[0].items() if name != MARKER}
    for name, marked in files.items():
        sparse_file(path.parent / f"{name}.safetensors", TRANSFORMER[0] if marked else entries, {})
    return path.parent
