"""INT8 files, rotated or not: they run as they are stored, and mean in every other form what they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from qied_client.errors import ModelUnsupported
from safetensors.torch import load_file
from torch import Tensor

from qied.checkpoints.part_file import usable_part
from qied.engine.engine import Engine
from qied.engine.weights.rotation import rotate
from qied.planning.layout.block_layout import linears
from tests.checkpoints.files import INT8_FLAVOURS, rotated, stored, write_transformer
from tests.engine.weights.test_layouts import Load, blocks_of, edited, load, meant_linear

__all__ = ["edited", "load"]
AS_STORED = ("int8_convrot", "int8_convrot_header")


def in_int8(load: Load, path: Path) -> Engine:
    return load({"transformer": path}, precision="int8", scaling=None, compute="bf16")


@pytest.mark.parametrize("flavour", AS_STORED)
def test_rotated_rows_stay_as_they_are_but_for_the_order_in_each_group(
    tmp_path: Path, load: Load, flavour: str
) -> None:
    path = tmp_path / "t.safetensors"
    write_transformer(path, flavour)
    kept = load_file(path)
    engine = in_int8(load, path)
    for number, tensors in enumerate(blocks_of(engine)):
        for linear in linears(engine.models.transformer.blocks.layout.shape):
            names = [f"transformer_blocks.{number}.{module}" for module in linear.modules]
            values = torch.cat([kept[f"{name}.weight"] for name in names])
            scales = torch.cat([kept[f"{name}.weight_scale"] for name in names]).flatten()
            assert torch.equal(tensors[f"{linear.name}.weight"], values.view(len(values), -1, 256).flip(2).flatten(1))
            assert torch.equal(tensors[f"{linear.name}.scale"], scales)


@pytest.mark.parametrize("flavour", [*INT8_FLAVOURS, "bf16", "fp8_comfy"])
def test_in_int8_each_weight_is_within_half_a_step_of_what_the_file_means(
    tmp_path: Path, load: Load, flavour: str
) -> None:
    path = tmp_path / "t.safetensors"
    meant = write_transformer(path, flavour)
    engine = in_int8(load, path)
    shape = engine.models.transformer.blocks.layout.shape
    for number, tensors in enumerate(blocks_of(engine)):
        for linear in linears(shape):
            scale = tensors[f"{linear.name}.scale"].double().unsqueeze(1)
            found = tensors[f"{linear.name}.weight"].double() * scale
            expected = rotate(meant_linear(meant, number, linear.modules), shape.rotation_group)
            assert ((found - expected).abs() <= scale * 0.5001).all()


@pytest.mark.parametrize("flavour", INT8_FLAVOURS)
def test_elsewhere_they_are_what_the_file_means(tmp_path: Path, load: Load, flavour: str) -> None:
    path = tmp_path / "t.safetensors"
    meant = write_transformer(path, flavour)
    engine = load({"transformer": path}, precision="fp32", compute="fp32")
    shape = engine.models.transformer.blocks.layout.shape
    for number, tensors in enumerate(blocks_of(engine)):
        for linear in linears(shape):
            expected = meant_linear(meant, number, linear.modules)
            torch.testing.assert_close(tensors[f"{linear.name}.weight"].double(), expected, rtol=1e-5, atol=1e-6)


def test_edits_in_int8_are_close_to_those_in_bf16(tmp_path: Path, edited: Callable[..., bytes]) -> None:
    path = tmp_path / "t.safetensors"
    write_transformer(path, "int8_convrot")
    plain = _pixels(edited())
    for found in (edited(precision="int8", compute="bf16"), edited({"transformer": path}, precision="int8")):
        assert (_pixels(found) - plain).abs().mean() < 1.0


def _pixels(image: bytes) -> Tensor:
    return torch.frombuffer(bytearray(image), dtype=torch.uint8).float()


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ({"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 100}, "groups of 100"),
        ({"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 4096}, "groups of 4096"),
        ({"format": "int4_something"}, "int4_something"),
    ],
)
def test_a_rotation_that_is_not_run_is_refused_by_name(tmp_path: Path, marker: dict[str, object], words: str) -> None:
    path = tmp_path / "t.safetensors"

    def change(tensors: dict[str, Tensor]) -> None:
        name = next(name for name in tensors if name.endswith(".comfy_quant"))
        tensors[name] = torch.frombuffer(bytearray(json.dumps(marker).encode()), dtype=torch.uint8)

    write_transformer(path, "int8_convrot", change=change)
    with pytest.raises(ModelUnsupported, match=words):
        usable_part(path, "transformer")


def test_the_rotation_of_these_files_is_ours_with_the_order_reversed() -> None:
    weight = next(tensor for name, tensor in stored("transformer").items() if name.endswith("img_mlp.net.2.weight"))
    for group in (4, 16, 64, 256):
        ours = rotate(weight.double(), group).view(len(weight), -1, group).flip(2).view(weight.shape)
        torch.testing.assert_close(rotated(weight, group), ours)
