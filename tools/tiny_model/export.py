"""Writes trained parts as a diffusers pipeline folder: BF16, no file above 16 MiB."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tools.tiny_model.model_card import model_card
from tools.tiny_model.sampling import SCHEDULER_CONFIG
from tools.tiny_model.text_encoder import CONDITION_SIDE

MAX_SHARD_SIZE = "15MB"
PARTS = ("vae", "transformer", "text_encoder", "tokenizer")
"""What the stages leave in a run's folder."""
LEAST_CONDITION_PIXELS = 56 * 56
ROUNDING_PIXELS = 256
"""Without some room above the condition picture's pixels the processor would round it down to 84 x 84."""
_VIDEOS = {
    "do_sample_frames": False,
    "max_frames": 768,
    "max_video_tokens": 128000,
    "min_frames": 4,
    "return_metadata": False,
    "video_processor_type": "Qwen2VLVideoProcessor",
}
"""What transformers writes for videos, which no edit has."""
_MODEL_INDEX = {
    "_class_name": "QwenImageEditPlusPipeline",
    "_diffusers_version": "0.37.0",
    "processor": ["transformers", "Qwen2VLProcessor"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "Qwen2_5_VLForConditionalGeneration"],
    "tokenizer": ["transformers", "Qwen2Tokenizer"],
    "transformer": ["diffusers", "QwenImageTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKLQwenImage"],
}


def save_transformer(model: QwenImageTransformer2DModel, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write a copy of ``model`` in ``dtype``, in shards."""
    copy.deepcopy(model).to("cpu", dtype).save_pretrained(folder, max_shard_size=MAX_SHARD_SIZE)


def save_text_encoder(
    model: Qwen2_5_VLForConditionalGeneration, folder: Path, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Write a copy of ``model`` in ``dtype``."""
    copied = copy.deepcopy(model).to("cpu", dtype)
    copied.config.architectures = [type(model).__name__]
    for config in (copied.config, copied.config.text_config, copied.config.vision_config):
        config.dtype = dtype
    copied.config.save_pretrained(folder)
    # transformers' own writes nothing in any process but the first of several.
    tensors = {name: value.contiguous() for name, value in copied.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def save_lora(tensors: dict[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    """Write a LoRA's tensors in BF16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.to("cpu", torch.bfloat16).contiguous() for name, value in tensors.items()}, path, metadata)


def unfinished(run: Path) -> list[str]:
    """What a finished run has and this one has not."""
    return [part for part in (*PARTS, "loras") if not (run / part).is_dir()]


def export_pipeline(run: Path, folder: Path) -> int:
    """Assemble the pipeline folder from a finished run; return its bytes. What was in ``folder`` is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part in PARTS:
        shutil.copytree(run / part, folder / part)
    _save_processor(run / "tokenizer", folder / "processor")
    FlowMatchEulerDiscreteScheduler(**SCHEDULER_CONFIG).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(_MODEL_INDEX, indent=2) + "\n", encoding="utf-8")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    (folder / "README.md").write_text(model_card(run, size), encoding="utf-8")
    return size


def _save_processor(tokenizer: Path, folder: Path) -> None:
    """Write what makes tokens of texts and pictures.

    The whole processor has a part for videos that transformers only builds beside torchvision; it is written as data.
    """
    size = {"shortest_edge": LEAST_CONDITION_PIXELS, "longest_edge": CONDITION_SIDE**2 + ROUNDING_PIXELS}
    pictures = Qwen2VLImageProcessorPil(size=size)
    # The real repository has this file too, and older versions read no other.
    pictures.save_pretrained(folder)
    values = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    config = {
        "image_processor": values,
        "processor_class": "Qwen2VLProcessor",
        "video_processor": {
            **{name: value for name, value in values.items() if name != "image_processor_type"},
            **_VIDEOS,
        },
    }
    (folder / "processor_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)


def export_loras(run: Path, folder: Path) -> int:
    """Copy the LoRAs of a finished run; return their bytes. What was in ``folder`` is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run / "loras", folder)
    return sum(file.stat().st_size for file in folder.iterdir())
