"""diffusers' own pipelines with the built-in model's weights, as the engine is held against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel
from PIL import Image
from transformers import BatchFeature, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from qied.edit import EditSpec
from qied.resources import builtin_model_folder

FOLDER = builtin_model_folder()
TOLERANCE = 2
"""Levels by which pixels may differ."""


class Processor:
    """What a pipeline asks of its processor, from tokenizer and picture processor, without torchvision."""

    def __init__(self, tokenizer: Qwen2Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.pictures = Qwen2VLImageProcessorPil.from_pretrained(FOLDER / "processor")

    def __call__(self, text: list[str], images: Sequence[Image.Image] | Image.Image, **_: object) -> BatchFeature:
        pictures = self.pictures(images=images, return_tensors="pt")
        (prompt,) = text
        head, *rest = prompt.split("<|image_pad|>")
        counts = (pictures["image_grid_thw"].prod(-1) // self.pictures.merge_size**2).tolist()
        whole = head + "".join("<|image_pad|>" * count + part for count, part in zip(counts, rest, strict=True))
        return BatchFeature({**self.tokenizer([whole], return_tensors="pt"), **pictures})


@dataclass
class Reference:
    """The pipeline, and whether its text encoder gets M-RoPE positions."""

    pipeline: Any
    mrope: bool = True


def reference_pipeline(kind: str, *, zero_cond_t: bool) -> Reference:
    """A pipeline of this class in FP32, with references modulated at timestep 0 or like the target."""
    tokenizer = Qwen2Tokenizer.from_pretrained(FOLDER / "tokenizer")
    text_encoder = Qwen2_5_VLForConditionalGeneration.from_pretrained(FOLDER / "text_encoder", dtype=torch.float32)
    settings = {"torch_dtype": torch.float32, "zero_cond_t": zero_cond_t}
    pictures = {} if kind == "QwenImagePipeline" else {"processor": Processor(tokenizer)}
    pipeline = getattr(diffusers, kind)(
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(FOLDER / "scheduler"),
        vae=AutoencoderKLQwenImage.from_pretrained(FOLDER / "vae", torch_dtype=torch.float32),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=QwenImageTransformer2DModel.from_pretrained(FOLDER / "transformer", **settings),
        **pictures,
    )
    assert pipeline.transformer.zero_cond_t is zero_cond_t
    pipeline.set_progress_bar_config(disable=True)
    made = Reference(pipeline)

    def give_token_types(_: torch.nn.Module, args: tuple[()], kwargs: dict[str, torch.Tensor]) -> object:
        types = (kwargs["input_ids"] == text_encoder.config.image_token_id).int()
        return (args, {**kwargs, "mm_token_type_ids": types}) if made.mrope else None

    text_encoder.register_forward_pre_hook(give_token_types, with_kwargs=True)
    return made


def some_pictures() -> dict[str, Image.Image]:
    """Three pictures of different shapes with something in them at every scale."""
    generator = np.random.default_rng(4)
    made = {}
    for name, (width, height) in {"a": (256, 256), "b": (300, 180), "c": (150, 400)}.items():
        coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), np.uint8))
        made[name] = coarse.resize((width, height), Image.Resampling.BICUBIC)
    return made


def by_pipeline(reference: Reference, spec: EditSpec, pictures: dict[str, Image.Image]) -> Image.Image:
    """What the pipeline makes of a spec."""
    given = {"image": [pictures[name] for name in spec.images]} if spec.images else {}
    image: Image.Image = reference.pipeline(
        **given,
        prompt=spec.prompt,
        negative_prompt=spec.negative_prompt,
        true_cfg_scale=spec.true_cfg_scale,
        num_inference_steps=spec.steps,
        generator=torch.Generator("cpu").manual_seed(spec.seed),
        width=spec.width,
        height=spec.height,
    ).images[0]
    return image


def largest_difference(first: Image.Image, second: Image.Image) -> int:
    """Levels by which two pictures of one size differ at most."""
    assert first.size == second.size
    return int(np.abs(np.asarray(first).astype(int) - np.asarray(second)).max())
