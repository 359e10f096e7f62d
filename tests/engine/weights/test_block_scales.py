"""NVFP4 and MXFP8: each number is what the definition says, rounded once, whatever the plan makes of the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qied.engine.weights.block_scales import expand_blocks_into
from qied.engine.weights.quantise import quantise
from qied.engine.weights.sources import FileSource
from qied.planning.layout.block_layout import linears
from tests.checkpoints.files import BLOCK_SCALED_FLAVOURS, E2M1, E4M3, in_tiles, write_text_encoder, write_transformer
from tests.engine.weights.test_layouts import Load, blocks_of, edited, load, meant_linear

__all__ = ["edited", "load"]


def blocks_expanded(values: Tensor, scales: Tensor, whole: Tensor | None, inputs: int) -> Tensor:
    result = torch.empty(len(values), inputs)
    expand_blocks_into(values, scales, whole, result)
    return result


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 300), groups=st.integers(1, 9), seed=st.integers(0, 1 << 30))
def test_any_nvfp4_is_its_codes_times_both_scales_rounded_once(rows: int, groups: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    packed = torch.randint(0, 256, (rows, 8 * groups), generator=generator, dtype=torch.uint8)
    scales = torch.randint(0, 127, (rows, groups), generator=generator, dtype=torch.uint8).view(E4M3)
    whole = torch.rand(1, generator=generator) * 1e-3
    codes = torch.stack([packed >> 4, packed & 15], 2).view(rows, groups, 16).int()
    expected = E2M1[codes] * scales.double().unsqueeze(2) * whole.double()
    found = blocks_expanded(packed, in_tiles(scales), whole, 16 * groups)
    assert torch.equal(found, expected.view(rows, -1).float())


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 300), groups=st.integers(1, 9), seed=st.integers(0, 1 << 30))
def test_any_mxfp8_is_its_numbers_times_a_power_of_two(rows: int, groups: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 256, (rows, 32 * groups), generator=generator, dtype=torch.uint8).view(E4M3)
    codes = torch.randint(0, 256, (rows, groups), generator=generator, dtype=torch.uint8)
    powers = torch.where(codes == 255, torch.nan, 2.0 ** (codes.double() - 127))
    expected = values.double().view(rows, groups, 32) * powers.unsqueeze(2)
    found = blocks_expanded(values, in_tiles(codes), None, 32 * groups)
    torch.testing.assert_close(found, expected.view(rows, -1).float(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("flavour", BLOCK_SCALED_FLAVOURS)
def test_each_tensor_of_a_file_is_what_it_means(tmp_path: Path, flavour: str) -> None:
    meant = write_transformer(tmp_path / "t.safetensors", flavour)
    source = FileSource("transformer", [tmp_path / "t.safetensors"])
    assert set(source.names()) == set(meant)
    for name, expected in meant.items():
        weight = source.stored(name)
        assert weight.shape == expected.shape
        assert torch.equal(weight.dense().float(), expected.float())
        if weight.block_scale is not None:
            assert weight.nbytes < 1.2 * expected.numel()
    assert sum(source.stored(name).block_scale is not None for name in meant) > 40
    assert source.bytes_of("F8_E4M3") == 0, "nothing can be taken as it is"


def test_the_plans_forms_are_made_of_what_a_file_means(tmp_path: Path, load: Load) -> None:
    path = tmp_path / "t.safetensors"
    meant = write_transformer(path, "nvfp4_mixed")
    for precision in ("fp32", "bf16", "fp8"):
        compute = "bf16" if precision == "fp8" else precision
        engine = load({"transformer": path}, precision=precision, compute=compute)
        for number, tensors in enumerate(blocks_of(engine)):
            for linear in linears(engine.models.transformer.blocks.layout.shape):
                expected = meant_linear(meant, number, linear.modules).float()
                if precision == "fp8":
                    made = quantise(expected, "rowwise")
                    found, scale = tensors[f"{linear.name}.weight"], tensors[f"{linear.name}.scale"]
                    assert torch.equal(found.view(torch.uint8), made.values.view(torch.uint8))
                    assert torch.equal(scale, made.scale.flatten())
                else:
                    assert torch.equal(tensors[f"{linear.name}.weight"], expected.to(tensors["image.q_norm"].dtype))


def test_a_text_encoder_is_what_its_file_means_resident_or_streamed(
    tmp_path: Path, load: Load, edited: Callable[..., bytes]
) -> None:
    path = tmp_path / "e.safetensors"
    meant = write_text_encoder(path, "nvfp4_mixed")
    run = {"precision": "fp32", "compute": "fp32"}
    found = load({"text_encoder": path}, **run).models.text_encoder.model.state_dict()
    assert all(torch.equal(tensor, meant[name].float()) for name, tensor in found.items())
    resident = edited({"text_encoder": path}, **run, text_encoder="resident")
    assert edited({"text_encoder": path}, **run, text_encoder="streamed") == resident
