"""The engine against diffusers' own pipeline: the same checkpoint, request and seed in FP32."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
)
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as pipeline_module
from PIL import Image
from transformers import BatchFeature, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from qied.edit import EditSpec
from qied.engine.edits.context import Advance
from qied.engine.edits.edit import Edit
from qied.engine.engine import Engine
from qied.planning.model_profile import ModelProfile
from qied.resources import builtin_model_folder

FOLDER = builtin_model_folder()
TOLERANCE = 2


class Processor:
    """What the pipeline asks of its processor, from tokenizer and picture processor, without torchvision."""

    def __init__(self, tokenizer: Qwen2Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.pictures = Qwen2VLImageProcessorPil.from_pretrained(FOLDER / "processor")

    def __call__(self, text: list[str], images: list[Image.Image], **_: object) -> BatchFeature:
        pictures = self.pictures(images=images, return_tensors="pt")
        (prompt,) = text
        head, *rest = prompt.split("<|image_pad|>")
        counts = (pictures["image_grid_thw"].prod(-1) // self.pictures.merge_size**2).tolist()
        whole = head + "".join("<|image_pad|>" * count + part for count, part in zip(counts, rest, strict=True))
        return BatchFeature({**self.tokenizer([whole], return_tensors="pt"), **pictures})


@dataclass
class Reference:
    """The pipeline, and whether its text encoder gets M-RoPE positions."""

    pipeline: QwenImageEditPlusPipeline
    mrope: bool = True


@pytest.fixture(scope="module")
def reference() -> Reference:
    tokenizer = Qwen2Tokenizer.from_pretrained(FOLDER / "tokenizer")
    text_encoder = Qwen2_5_VLForConditionalGeneration.from_pretrained(FOLDER / "text_encoder", dtype=torch.float32)
    pipeline = QwenImageEditPlusPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(FOLDER / "scheduler"),
        vae=AutoencoderKLQwenImage.from_pretrained(FOLDER / "vae", torch_dtype=torch.float32),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        processor=Processor(tokenizer),
        transformer=QwenImageTransformer2DModel.from_pretrained(FOLDER / "transformer", torch_dtype=torch.float32),
    )
    pipeline.set_progress_bar_config(disable=True)
    made = Reference(pipeline)

    def give_token_types(_: torch.nn.Module, args: tuple[()], kwargs: dict[str, torch.Tensor]) -> object:
        types = (kwargs["input_ids"] == text_encoder.config.image_token_id).int()
        return (args, {**kwargs, "mm_token_type_ids": types}) if made.mrope else None

    text_encoder.register_forward_pre_hook(give_token_types, with_kwargs=True)
    return made


@pytest.fixture
def native_sizes(profile: ModelProfile, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pipeline_module, "CONDITION_IMAGE_SIZE", profile.geometry.vision_pixels)
    monkeypatch.setattr(pipeline_module, "VAE_IMAGE_SIZE", profile.geometry.vae_pixels)
    yield


@pytest.fixture(scope="module")
def pictures() -> dict[str, Image.Image]:
    """Three pictures of different shapes with something in them at every scale."""
    generator = np.random.default_rng(4)
    made = {}
    for name, (width, height) in {"a": (256, 256), "b": (300, 180), "c": (150, 400)}.items():
        coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), np.uint8))
        made[name] = coarse.resize((width, height), Image.Resampling.BICUBIC)
    return made


def by_pipeline(reference: Reference, spec: EditSpec, pictures: dict[str, Image.Image]) -> Image.Image:
    return reference.pipeline(
        image=[pictures[name] for name in spec.images],
        prompt=spec.prompt,
        negative_prompt=spec.negative_prompt,
        true_cfg_scale=spec.true_cfg_scale,
        num_inference_steps=spec.steps,
        generator=torch.Generator("cpu").manual_seed(spec.seed),
        width=spec.width,
        height=spec.height,
    ).images[0]


def largest_difference(first: Image.Image, second: Image.Image) -> int:
    assert first.size == second.size
    return int(np.abs(np.asarray(first).astype(int) - np.asarray(second)).max())


GUIDED = {"true_cfg_scale": 4.0, "negative_prompt": " "}


@pytest.mark.usefixtures("native_sizes")
@pytest.mark.parametrize(
    ("images", "width", "height", "guidance"),
    [
        ("a", 256, 256, {}),
        ("b", 288, 192, GUIDED),
        ("ab", 256, 256, GUIDED),
        ("ca", 176, 304, {}),
        ("abc", 256, 256, {}),
        ("cab", 208, 240, GUIDED),
    ],
)
def test_results_equal_the_pipelines(
    engine: Engine,
    reference: Reference,
    pictures: dict[str, Image.Image],
    scope: str,
    spec: Callable[..., EditSpec],
    finish: Callable[[Edit], list[Advance]],
    images: str,
    width: int,
    height: int,
    guidance: dict[str, object],
) -> None:
    wanted = spec(images=tuple(images), width=width, height=height, **guidance)
    image = finish(engine.begin(wanted, pictures, scope))[-1].image
    assert image is not None
    reference.mrope = True
    assert largest_difference(image, by_pipeline(reference, wanted, pictures)) <= TOLERANCE


@pytest.mark.usefixtures("native_sizes")
def test_with_plain_positions_results_equal_the_untouched_pipelines(
    load_engine: Callable[..., Engine],
    reference: Reference,
    pictures: dict[str, Image.Image],
    scope: str,
    spec: Callable[..., EditSpec],
    finish: Callable[[Edit], list[Advance]],
) -> None:
    wanted = spec(images=("b", "a"), width=256, height=160)
    plain = load_engine(dtype="fp32", text_positions="plain")
    image = finish(plain.begin(wanted, pictures, scope))[-1].image
    assert image is not None
    reference.mrope = False
    assert largest_difference(image, by_pipeline(reference, wanted, pictures)) <= TOLERANCE


def test_the_two_kinds_of_positions_give_different_embeddings(
    engine: Engine, load_engine: Callable[..., Engine], pictures: dict[str, Image.Image]
) -> None:
    embeddings = []
    for each in (engine, load_engine(dtype="fp32", text_positions="plain")):
        encoder = each.models.text_encoder
        with torch.inference_mode():
            features = encoder.vision_features(pictures["a"], (112, 112))
            embeddings.append(encoder.prompt_embeddings("make it blue", [features]))
    mrope, plain = embeddings
    assert (mrope - plain).norm() > 0.05 * mrope.norm()
