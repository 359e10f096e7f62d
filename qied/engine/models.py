"""The models of one checkpoint, built from their own configurations and filled with their weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
from qied_client.errors import ModelNotFound, ModelUnsupported
from torch import nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel, Qwen2Tokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from qied.engine.checkpoint import (
    OnProgress,
    SkipRandomInit,
    WeightFiles,
    WeightReader,
    check_pipeline,
    read_json,
    weight_files,
)
from qied.engine.sigmas import ScheduleConfig, schedule_config
from qied.engine.single_frame import restrict_to_single_frames
from qied.engine.text_encoder import TextEncoder, TextPositions
from qied.engine.tokens import PromptTokens
from qied.engine.vae import Vae
from qied.planning.model_profile import ModelProfile


@dataclass(frozen=True)
class Models:
    """Everything that a checkpoint holds, on its device; nothing of it changes while edits run."""

    transformer: Any
    text_encoder: TextEncoder
    vae: Vae
    schedule: ScheduleConfig
    device: torch.device
    dtype: torch.dtype

    def memory_bytes(self) -> int:
        """Bytes of all weights."""
        modules: Iterable[nn.Module] = (self.transformer, self.text_encoder.model, self.vae.model)
        return sum(
            tensor.nbytes for module in modules for group in (module.parameters(), module.buffers()) for tensor in group
        )


def load_models(
    folder: Path,
    profile: ModelProfile,
    *,
    device: torch.device,
    dtype: torch.dtype,
    positions: TextPositions,
    on_progress: OnProgress,
) -> Models:
    """Load a pipeline folder; every file is looked for before the first weight is read.

    Raises ModelNotFound or ModelUnsupported, naming the file and what to do.
    """
    check_pipeline(folder)
    schedule = schedule_config(read_json(folder / "scheduler" / "scheduler_config.json"))
    transformer_config = _transformer_config(folder, profile)
    vae_config = read_json(folder / "vae" / "config.json")
    read_json(folder / "text_encoder" / "config.json")
    tokens = _prompt_tokens(folder, profile)
    processor = _picture_processor(folder)
    files = {
        "text_encoder": weight_files(folder, "text_encoder", "model"),
        "transformer": weight_files(folder, "transformer", "diffusion_pytorch_model"),
        "vae": weight_files(folder, "vae", "diffusion_pytorch_model"),
    }
    reader = WeightReader(sum(weights.bytes for weights in files.values()), on_progress)
    text_model = _load_text_model(folder, reader, files["text_encoder"], device, dtype)
    transformer = _load_transformer(transformer_config, reader, files["transformer"], device, dtype)
    vae = _load_vae(vae_config, reader, files["vae"], device, dtype)
    text_encoder = TextEncoder(text_model, tokens, processor, device, dtype, positions)
    return Models(transformer, text_encoder, vae, schedule, device, dtype)


def text_encoder_name(stored: str) -> str | None:
    """Return a stored tensor's name in the model without its language head, or None for the head itself.

    Checkpoints from before transformers 5 keep the language model right under ``model.``.
    """
    if stored.startswith("lm_head."):
        return None
    for prefix in ("model.visual.", "model.language_model."):
        if stored.startswith(prefix):
            return stored.removeprefix("model.")
    return "language_model." + stored.removeprefix("model.") if stored.startswith("model.") else stored


def _transformer_config(folder: Path, profile: ModelProfile) -> dict[str, Any]:
    path = folder / "transformer" / "config.json"
    config = read_json(path)
    if config.get("zero_cond_t") is not True:
        raise ModelUnsupported(
            f"{path} does not set zero_cond_t, which marks 2511: this is an older checkpoint.",
            "Use Qwen/Qwen-Image-Edit-2511; with a copy of it, restore the original config.json.",
        )
    if config.get("guidance_embeds", False):
        raise ModelUnsupported(f"{path} sets guidance_embeds, which 2511 does not use.", "Use the original files.")
    layers = config.get("num_layers")
    if layers != profile.architecture.layers:
        raise ModelUnsupported(
            f"{path} has {layers} layers, the profile {profile.name!r} {profile.architecture.layers}.",
            "Name the profile that belongs to these files.",
        )
    return config


def _load_transformer(
    config: dict[str, Any], reader: WeightReader, files: WeightFiles, device: torch.device, dtype: torch.dtype
) -> nn.Module:
    with SkipRandomInit():
        model: nn.Module = QwenImageTransformer2DModel.from_config(config)
    if getattr(model, "zero_cond_t", False) is not True:
        raise ModelUnsupported("The installed diffusers drops zero_cond_t.", "Install diffusers 0.37 or newer.")
    reader.fill(model, files, device, dtype)
    return model.to(device).eval().requires_grad_(False)


def _load_text_model(
    folder: Path, reader: WeightReader, files: WeightFiles, device: torch.device, dtype: torch.dtype
) -> nn.Module:
    with SkipRandomInit():
        model: nn.Module = Qwen2_5_VLModel(Qwen2_5_VLConfig.from_pretrained(folder / "text_encoder"))
    reader.fill(model, files, device, dtype, text_encoder_name)
    return model.to(device).eval().requires_grad_(False)


def _load_vae(
    config: dict[str, Any], reader: WeightReader, files: WeightFiles, device: torch.device, dtype: torch.dtype
) -> Vae:
    """Load the VAE; on a CPU it runs in FP32, which is both faster there and closer than BF16."""
    precision = torch.float32 if device.type == "cpu" else dtype
    with SkipRandomInit():
        model: Any = AutoencoderKLQwenImage.from_config(config)
    reader.fill(model, files, device, precision)
    restrict_to_single_frames(model)
    model.to(device=device, memory_format=torch.channels_last).eval().requires_grad_(False)
    mean, deviation = torch.tensor(model.config.latents_mean), torch.tensor(model.config.latents_std)
    return Vae(model, mean.to(device), deviation.to(device), device, precision)


def _prompt_tokens(folder: Path, profile: ModelProfile) -> PromptTokens:
    path = folder / "tokenizer"
    if not (path / "tokenizer_config.json").is_file():
        raise ModelNotFound(f"{path / 'tokenizer_config.json'} is missing.", "Download the model again.")
    tokens = PromptTokens(Qwen2Tokenizer.from_pretrained(path))
    if tokens.template_tokens != profile.template_tokens:
        raise ModelUnsupported(
            f"{path}: the edit template has {tokens.template_tokens} tokens, the profile "
            f"{profile.name!r} says {profile.template_tokens}.",
            "Use the tokenizer folder that came with the model.",
        )
    return tokens


def _picture_processor(folder: Path) -> Any:
    """Read the picture processor's settings; its PIL version, since the other one needs torchvision."""
    settings = read_json(folder / "processor" / "preprocessor_config.json")
    known = ("min_pixels", "max_pixels", "size", "patch_size", "temporal_patch_size", "merge_size", "resample")
    colours = ("image_mean", "image_std", "do_rescale", "rescale_factor", "do_normalize")
    return Qwen2VLImageProcessorPil(**{key: settings[key] for key in (*known, *colours) if key in settings})
