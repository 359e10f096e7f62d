"""Headers of the real model's files, in their full size and without their data, are recognised."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import pytest

from qied.checkpoints.expected import expected_shapes
from qied.checkpoints.inspect import inspect
from qied.planning.profiles.model_profile import shipped_profiles
from tests.checkpoints.files import MARKER
from tests.checkpoints.sparse_files import REAL, all_in_one, stored_as
from tools.sparse_checkpoint import sparse_file


@pytest.mark.parametrize(
    ("name", "part", "flavour", "layout", "size"),
    [
        ("qwen_image_edit_2511_bf16", "transformer", "bf16", "comfyui", 40.86e9),
        ("qwen_image_edit_2511_fp8_e4m3fn", "transformer", "fp8_plain", "comfyui", 20.43e9),
        ("qwen_image_edit_2511_fp8mixed", "transformer", "fp8_comfy", "comfyui", 20.5e9),
        ("qwen_image_edit_2511_fp8_e4m3fn_scaled_lightning_4steps", "transformer", "fp8_lightx2v", "lightx2v", 20.5e9),
        ("qwen_image_edit_2511_nvfp4", "transformer", "nvfp4", "comfyui", 11.6e9),
        ("qwen_image_edit_2511_mxfp8", "transformer", "mxfp8", "comfyui", 21.1e9),
        ("qwen_2.5_vl_7b", "text_encoder", "bf16", "comfyui", 16.58e9),
        ("qwen_2.5_vl_7b_fp8_scaled", "text_encoder", "fp8_scaled", "comfyui", 9.38e9),
        ("qwen_image_vae", "vae", "bf16", "comfyui", 253.8e6),
    ],
)
def test_files_of_full_size_are_recognised(
    tmp_path: Path, name: str, part: str, flavour: str, layout: str, size: float
) -> None:
    path = sparse_file(tmp_path / f"{name}.safetensors", *stored_as(part, flavour))
    found = inspect(path)
    assert (found.role, found.layout, found.precision) == (part, layout, flavour)
    assert (found.model, found.problems) == (REAL, ())
    assert found.bytes == pytest.approx(size, rel=0.01)
    assert path.stat().st_blocks * 512 < 4e6
    assert found.lightning_steps == (4 if "lightning" in name else None)


@pytest.mark.parametrize("flavour", ["bf16", "fp8_plain", "fp8_scaled"])
def test_a_checkpoint_of_all_parts_in_full_size_is_recognised(tmp_path: Path, flavour: str) -> None:
    path = sparse_file(tmp_path / "Qwen-Rapid-AIO-v19.safetensors", *all_in_one(flavour))
    found = inspect(path)
    assert (found.role, found.model, found.precision, found.problems) == ("checkpoint", REAL, flavour, ())
    assert path.stat().st_size > (50e9 if flavour == "bf16" else 28e9)


@pytest.mark.parametrize(
    ("name", "flavour", "model"),
    [
        ("qwen_image_edit_2509_fp8_e4m3fn", "fp8_plain", "qwen-image-edit-2509"),
        ("Qwen-Image-Edit-2509_fp8mixed", "fp8_comfy", "qwen-image-edit-2509"),
        ("qwen_image_edit_bf16", "bf16", "qwen-image-edit"),
        ("FireRed-Image-Edit-1.0_fp8mixed_comfy", "fp8_comfy", "firered-image-edit-1.0"),
        ("FireRed-Image-Edit-1.1-transformer", "bf16", "firered-image-edit-1.1"),
        ("qwen_image_fp8_e4m3fn", "fp8_plain", "qwen-image"),
        ("qwen_image_2512_fp8_e4m3fn", "fp8_plain", "qwen-image-2512"),
    ],
)
def test_each_model_is_recognised_by_the_name_of_its_file_of_full_size(
    tmp_path: Path, name: str, flavour: str, model: str
) -> None:
    entries, texts = stored_as("transformer", flavour)
    del entries[MARKER]
    path = sparse_file(tmp_path / f"{name}.safetensors", entries, texts)
    found = inspect(path)
    assert (found.role, found.precision, found.shown_by) == ("transformer", flavour, "name")
    assert (found.model, found.problems) == (model, ())


def test_shards_of_the_real_folder_are_recognised_together(tmp_path: Path) -> None:
    shapes = expected_shapes(shipped_profiles()[REAL], "transformer")
    names = list(shapes)
    weight_map = {}
    for number, part in enumerate((names[:900], names[900:]), 1):
        file = f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
        sparse_file(tmp_path / "transformer" / file, {name: ("BF16", shapes[name]) for name in part}, {})
        weight_map |= dict.fromkeys(part, file)
    (tmp_path / "transformer" / "config.json").write_text('{"zero_cond_t": true}')
    index = tmp_path / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "model_index.json").write_text('{"_class_name": "QwenImageEditPlusPipeline"}')
    found = inspect(tmp_path)
    assert (found.role, found.model, found.precision, found.problems) == ("pipeline", REAL, "bf16", ())
    assert found.bytes == pytest.approx(2 * sum(map(prod, shapes.values())), rel=0.001)
