from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
import torch
from diffusers import QwenImageEditPlusPipeline
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from qied.engine.text.encoder import TextEncoder
from qied.engine.text.prompt import PromptTokens
from qied.resources import builtin_model_folder
from tools.tiny_model.edits import Edit, sample_edit
from tools.tiny_model.phrasings import REFERENCE_TASKS
from tools.tiny_model.prompts import IMAGE_TOKEN, TEMPLATE, Prompts
from tools.tiny_model.render import render_scenes
from tools.tiny_model.text_encoder import (
    HIDDEN,
    TextEncoderForward,
    condition_patches,
    make_text_encoder,
    text_encoder_config,
)

COUNT = 3
PICTURES = pytest.mark.parametrize("pictures", [1, 2])
MROPE = pytest.mark.parametrize("mrope", [False, True], ids=["plain", "mrope"])


@pytest.fixture(scope="module")
def folder(tokenizer_folder) -> Path:
    return tokenizer_folder


@pytest.fixture(scope="module")
def prompts(folder) -> Prompts:
    return Prompts(folder)


@pytest.fixture(scope="module")
def encoder(prompts) -> Qwen2_5_VLForConditionalGeneration:
    """Every weight is moved, so that norms, biases and the scale of attention count."""
    made = make_text_encoder(prompts, seed=3).eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    return made


@pytest.fixture(scope="module")
def processor() -> Qwen2VLImageProcessorPil:
    return Qwen2VLImageProcessorPil.from_pretrained(builtin_model_folder() / "processor")


def some_edits(pictures: int) -> list[Edit]:
    rng = Random(pictures)
    tasks = REFERENCE_TASKS[:COUNT] if pictures == 2 else [None] * COUNT
    return [sample_edit(rng, task) for task in tasks]


def inputs(prompts: Prompts, pictures: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, lengths and condition patches of real edits."""
    edits = some_edits(pictures)
    ids, lengths = prompts.batch([edit.instruction for edit in edits], pictures)
    scenes = [[edit.source for edit in edits], [edit.reference for edit in edits if edit.reference]]
    patches = torch.stack([condition_patches(render_scenes(each)) for each in scenes[:pictures]], 1)
    return ids, lengths, patches


def by_the_library(
    encoder: Qwen2_5_VLForConditionalGeneration,
    prompts: Prompts,
    ids: Tensor,
    lengths: Tensor,
    patches: Tensor,
    mrope: bool,
) -> Tensor:
    image = ids == prompts.token_id(IMAGE_TOKEN)
    output = encoder(
        input_ids=ids,
        attention_mask=(torch.arange(ids.shape[1]) < prompts.DROPPED + lengths[:, None]).long(),
        pixel_values=patches.flatten(0, 2),
        image_grid_thw=torch.tensor([[1, 8, 8]] * patches.shape[0] * patches.shape[1]),
        output_hidden_states=True,
        **({"mm_token_type_ids": image.int()} if mrope else {}),
    )
    return output.hidden_states[-1][:, prompts.DROPPED :]


def valid(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Rows [total, HIDDEN] of what is no padding."""
    return hidden[torch.arange(hidden.shape[1]) < lengths[:, None]]


def test_the_configuration_is_that_of_the_built_in_model(prompts):
    stored = json.loads((builtin_model_folder() / "text_encoder" / "config.json").read_text())
    ours = json.loads(text_encoder_config(prompts).to_json_string(use_diff=False))
    ignored = {"architectures", "dtype", "transformers_version"}
    for part, wanted in {"": stored, **{name: stored[name] for name in ("text_config", "vision_config")}}.items():
        made = ours[part] if part else ours
        differing = {key for key in wanted if key not in ignored and key not in ("text_config", "vision_config")}
        assert {key: made.get(key) for key in differing} == {key: wanted[key] for key in differing}


def test_weights_depend_on_the_seed_alone(prompts):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (make_text_encoder(prompts, seed=seed).state_dict() for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "model.language_model.embed_tokens.weight"
    assert not torch.equal(first[name], other[name])
    assert sum(weight.numel() for weight in first.values()) < 1_500_000


@MROPE
@PICTURES
def test_hidden_states_are_those_of_the_library(encoder, prompts, pictures, mrope):
    ids, lengths, patches = inputs(prompts, pictures)
    with torch.no_grad():
        expected = by_the_library(encoder, prompts, ids, lengths, patches, mrope)
        hidden = TextEncoderForward(encoder, prompts, pictures)(ids, patches, torch.full((COUNT,), mrope))
    assert hidden.shape == (COUNT, prompts.text_tokens(pictures), HIDDEN)
    torch.testing.assert_close(valid(hidden, lengths), valid(expected, lengths), rtol=0, atol=5e-5)


@PICTURES
def test_each_sample_chooses_its_positions(encoder, prompts, pictures):
    ids, lengths, patches = inputs(prompts, pictures)
    forward = TextEncoderForward(encoder, prompts, pictures)
    with torch.no_grad():
        mixed = forward(ids, patches, torch.tensor([True, False, True]))
        plain, turned = (forward(ids, patches, torch.full((COUNT,), mrope)) for mrope in (False, True))
    assert (valid(plain, lengths) - valid(turned, lengths)).abs().max() > 0.01
    torch.testing.assert_close(mixed, torch.stack([turned[0], plain[1], turned[2]]), rtol=0, atol=1e-5)


@PICTURES
def test_samples_and_padding_do_not_mix(encoder, prompts, pictures):
    ids, lengths, patches = inputs(prompts, pictures)
    forward = TextEncoderForward(encoder, prompts, pictures)
    mrope = torch.tensor([True, False, True])
    changed = ids.clone()
    changed[1:] = ids[:1]
    changed[0, prompts.DROPPED + lengths[0] :] = 7
    with torch.no_grad():
        first = forward(ids, patches, mrope)[0, : lengths[0]]
        torch.testing.assert_close(forward(changed, patches, mrope)[0, : lengths[0]], first)


@PICTURES
def test_gradients_are_those_of_the_library(encoder, prompts, pictures):
    ids, lengths, patches = inputs(prompts, pictures)
    forward = TextEncoderForward(encoder, prompts, pictures)
    weights = {name: weight for name, weight in encoder.named_parameters() if not name.startswith("lm_head")}

    def gradients(hidden: Tensor) -> tuple[Tensor, ...]:
        aim = torch.linspace(-1, 1, HIDDEN)
        return torch.autograd.grad((valid(hidden, lengths) - aim).square().mean(), list(weights.values()))

    expected = gradients(by_the_library(encoder, prompts, ids, lengths, patches, True))
    found = gradients(forward(ids, patches, torch.ones(COUNT, dtype=torch.bool)))
    for name, wanted, made in zip(weights, expected, found, strict=True):
        torch.testing.assert_close(made, wanted, rtol=1e-3, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_autocast_changes_little(encoder, prompts):
    ids, lengths, patches = inputs(prompts, 1)
    forward = TextEncoderForward(encoder, prompts, 1)
    mrope = torch.tensor([True, False, True])
    with torch.no_grad():
        exact = forward(ids, patches, mrope)
        with torch.autocast("cpu", torch.bfloat16):
            rough = forward(ids, patches.bfloat16(), mrope)
    error = valid(rough - exact, lengths).square().mean() / valid(exact, lengths).square().mean()
    assert 0 < error < 1e-3


@PICTURES
def test_the_forward_reads_no_values(encoder, prompts, pictures):
    """Tensors without values stand for those on a GPU: whatever waits for a value fails."""
    hollow = make_text_encoder(prompts).to("meta")
    forward = TextEncoderForward(hollow, prompts, pictures, "meta")
    ids = torch.zeros(COUNT, 64 + prompts.text_tokens(pictures), dtype=torch.int64, device="meta")
    pixels = torch.zeros(COUNT * pictures, 3, 256, 256, device="meta")
    patches = condition_patches(pixels).unflatten(0, (COUNT, pictures))
    hidden = forward(ids, patches, torch.zeros(COUNT, dtype=torch.bool, device="meta"))
    hidden.square().mean().backward()
    assert hidden.shape == (COUNT, prompts.text_tokens(pictures), HIDDEN)


def test_condition_patches_are_the_pixel_values_of_the_processor(processor):
    pictures = render_scenes([edit.source for edit in (*some_edits(1), *some_edits(2))])
    found = condition_patches(pictures)
    levels = (pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    # The pipeline gives its processor the picture enlarged to 384 x 384 pixels.
    images = [Image.fromarray(each.numpy()).resize((384, 384), Image.Resampling.LANCZOS) for each in levels]
    expected = processor(images=images, return_tensors="pt")
    assert expected["image_grid_thw"].tolist() == [[1, 8, 8]] * len(images)
    error = (found.flatten(0, 1) - expected["pixel_values"]).abs()
    deviation = 0.27 * 255
    assert error.mean() * deviation < 0.2
    assert error.max() * deviation < 12


@PICTURES
def test_the_engine_sees_what_training_sees(encoder, prompts, processor, folder, pictures):
    """From instruction and picture to hidden states: the engine, which takes M-RoPE positions, against the forward."""
    ids, lengths, patches = inputs(prompts, pictures)
    edit = some_edits(pictures)[0]
    tokens = PromptTokens(AutoTokenizer.from_pretrained(folder), TEMPLATE)
    engine = TextEncoder(encoder.model, tokens, processor, torch.device("cpu"), torch.float32)
    scenes = [edit.source, edit.reference][:pictures]
    levels = [(each * 255).round().to(torch.uint8).permute(1, 2, 0) for each in render_scenes(scenes)]
    with torch.no_grad():
        seen = [engine.vision_features(Image.fromarray(each.numpy()), (384, 384)) for each in levels]
        expected = engine.prompt_embeddings(edit.instruction, seen)[0]
        hidden = TextEncoderForward(encoder, prompts, pictures)(ids, patches, torch.ones(COUNT, dtype=torch.bool))
    difference = (hidden[0, : lengths[0]] - expected).square().mean() / expected.square().mean()
    assert difference < 1e-4


def test_diffusers_pipeline_gives_plain_positions(encoder, prompts, processor, folder):
    ids, lengths, patches = inputs(prompts, 1)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def process(**given: object):
        batch = tokenizer.pad({"input_ids": [ids[0, : prompts.DROPPED + lengths[0]].tolist()]}, return_tensors="pt")
        batch["pixel_values"], batch["image_grid_thw"] = patches[0, 0], torch.tensor([[1, 8, 8]])
        return batch

    rest = dict.fromkeys(("scheduler", "vae", "tokenizer", "transformer"))
    pipeline = QwenImageEditPlusPipeline(processor=None, text_encoder=encoder, **rest)
    pipeline.processor = process
    with torch.no_grad():
        expected, _ = pipeline._get_qwen_prompt_embeds("", None, torch.device("cpu"), torch.float32)
        hidden = TextEncoderForward(encoder, prompts, 1)(ids, patches, torch.zeros(COUNT, dtype=torch.bool))
    torch.testing.assert_close(hidden[0, : lengths[0]], expected[0], rtol=0, atol=5e-5)
