"""Lightning LoRAs are known by their names or by what is written in them."""

from __future__ import annotations

import pytest

from qied.loras.lightning import lightning_steps, named_version


@pytest.mark.parametrize(
    ("file", "metadata", "steps"),
    [
        ("Qwen-Image-Edit-2511-Lightning-4steps-V1.0-bf16.safetensors", {}, 4),
        ("sub/Qwen-Image-Edit-2511-Lightning-8steps-V1.0-fp32.safetensors", {}, 8),
        ("qwen_lightning_8_step.safetensors", {}, 8),
        ("lightning/style-4steps.safetensors", {}, None),
        ("lightning.safetensors", {}, None),
        ("style.safetensors", {"modelspec.title": "Qwen Lightning 4-step"}, 4),
        ("style.safetensors", {"lightning_steps": "6"}, 6),
        ("style.safetensors", {"lightning_steps": "many"}, None),
        ("4steps-lightning.safetensors", {}, 4),
        ("qwen_edit_4step_lightning.safetensors", {}, 4),
        ("Qwen-Edit_8-Steps_2511_Lightning_v2.safetensors", {}, 8),
        ("lightning_steps_4.safetensors", {}, 4),
        ("lightx2v-4step.safetensors", {}, 4),
        ("lightning-strike-800steps.safetensors", {}, None),
        ("lightning-strike-20steps.safetensors", {}, None),
        ("lightning-v1.4steps.safetensors", {}, None),
        ("lightning-0steps.safetensors", {}, None),
    ],
)
def test_the_steps_of_a_lightning_lora_are_told(file, metadata, steps):
    assert lightning_steps(file, metadata) == steps


@pytest.mark.parametrize(
    ("file", "metadata", "version"),
    [
        ("Qwen-Image-Edit-2511-Lightning-4steps-V1.0-bf16.safetensors", {}, "2511"),
        ("sub2509/Qwen-Image-Edit-2509-Lightning-8steps.safetensors", {}, "2509"),
        ("style.safetensors", {"modelspec.title": "for 2511"}, "2511"),
        ("Qwen-Image-Lightning-4steps-V1.0.safetensors", {}, "qwen-image"),
        ("Qwen-Image-Edit-Lightning-8steps-V1.0-bf16.safetensors", {}, "edit"),
        ("FireRed-Image-Edit-1.1-Lightning-8steps-v1.2.safetensors", {}, "firered-1.1"),
        ("FireRed-Image-Edit-Lightning-8steps.safetensors", {}, "FireRed-Image-Edit"),
        ("12511.safetensors", {}, None),
    ],
)
def test_the_version_of_the_model_that_a_lora_names(file, metadata, version):
    assert named_version(file, metadata) == version
