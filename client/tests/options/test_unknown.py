"""Options that there are not, and which are meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qied_client.options import OPTIONS
from qied_client.options.unknown import unknown_option


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("sede", "seed"),
        ("step", "steps"),
        ("Seed", "seed"),
        ("negativ_prompt", "negative_prompt"),
        ("prioritiy", "priority"),
        # diffusers
        ("num_inference_steps", "steps"),
        ("num_inference_step", "steps"),
        ("guidance_scale", "true_cfg_scale"),
        ("generator", "seed"),
        ("mask_image", "mask"),
        ("cross_attention_kwargs", "loras"),
        ("torch_dtype", "precision"),
        # OpenAI
        ("partial_images", "previews"),
        # ComfyUI
        ("cfg", "true_cfg_scale"),
        ("CFG", "true_cfg_scale"),
        ("noise_seed", "seed"),
        ("negative", "negative_prompt"),
        ("lora_name", "loras"),
    ],
)
def test_the_option_that_was_meant_is_named(name: str, nearest: str) -> None:
    error = unknown_option(name, OPTIONS)
    assert error.details == {"field": name, "nearest": nearest}
    assert repr(name) in error.message
    assert nearest in error.remedy


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("image", "first argument"),
        ("strength", "no strength"),
        ("denoise", "no strength"),
        ("resolution", "width= and height="),
        ("scheduler", "preset"),
        ("sampler_name", "preset"),
        ("num_images_per_prompt", "n="),
        ("output_type", ".image"),
        ("response_format", ".bytes"),
        ("callback_on_step_end", "on_progress="),
        ("quality", "Result.save"),
        ("latents", "seed"),
        ("timeout", "edit()"),
        ("job_id", "submit()"),
    ],
)
def test_what_is_not_an_option_at_all_says_what_to_do(name: str, words: str) -> None:
    error = unknown_option(name, OPTIONS)
    assert error.details["nearest"] is None
    assert words in error.remedy


@given(st.text(min_size=1, max_size=20))
def test_every_name_gets_an_answer_that_names_options(name: str) -> None:
    error = unknown_option(name, OPTIONS)
    assert error.details["nearest"] in (None, *OPTIONS)
    assert error.remedy


def test_a_name_like_nothing_gets_the_whole_list() -> None:
    assert all(name in unknown_option("zzz", OPTIONS).remedy for name in OPTIONS)
