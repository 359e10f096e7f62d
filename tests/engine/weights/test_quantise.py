import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qied.engine.weights import quantise as module
from qied.engine.weights.quantise import E4M3, E4M3_MAX, dequantise, quantise, row_chunks


def numbers(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator) * torch.logspace(-3, 2, rows).unsqueeze(1)


def test_each_row_is_cast_with_its_own_largest_magnitude() -> None:
    x = numbers(7, 33)
    quantised = quantise(x, "rowwise")
    scale = x.abs().amax(dim=1, keepdim=True) / E4M3_MAX
    assert torch.equal(quantised.scale, scale)
    assert torch.equal(quantised.values.float(), (x / scale).to(E4M3).float())
    assert (quantised.values.float().abs().amax(dim=1) == E4M3_MAX).all()


def test_per_tensor_there_is_one_scale() -> None:
    x = numbers(7, 33)
    quantised = quantise(x, "tensorwise")
    scale = x.abs().max().reshape(1, 1) / E4M3_MAX
    assert torch.equal(quantised.scale, scale)
    assert torch.equal(quantised.values.float(), (x / scale).to(E4M3).float())


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5), st.sampled_from(["rowwise", "tensorwise"]))
def test_going_there_and_back_errs_by_at_most_a_sixteenth(rows: int, columns: int, seed: int, scaling: str) -> None:
    x = numbers(rows, columns, seed)
    quantised = quantise(x, scaling)
    back = dequantise(quantised.values, quantised.scale.flatten(), torch.float32)
    smallest_normal = quantised.scale * 2**-6
    assert ((back - x).abs() <= torch.maximum(x.abs(), smallest_normal) / 16 * 1.0001).all()


@pytest.mark.parametrize("scaling", ["rowwise", "tensorwise"])
def test_the_result_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch, scaling: str) -> None:
    x = numbers(37, 64)
    whole = quantise(x, scaling)
    expanded = dequantise(whole.values, whole.scale.flatten(), torch.bfloat16)
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", 300)
    pieces = quantise(x, scaling)
    assert torch.equal(whole.values.float(), pieces.values.float()) and torch.equal(whole.scale, pieces.scale)
    assert torch.equal(expanded, dequantise(pieces.values, pieces.scale.flatten(), torch.bfloat16))


def test_bf16_is_cast_like_the_same_numbers_in_fp32() -> None:
    x = numbers(5, 40).bfloat16()
    one, two = quantise(x, "rowwise"), quantise(x.float(), "rowwise")
    assert torch.equal(one.values.float(), two.values.float()) and torch.equal(one.scale, two.scale)


def test_zeros_stay_zeros() -> None:
    quantised = quantise(torch.zeros(2, 8), "rowwise")
    assert (quantised.values.float() == 0).all()
    assert (dequantise(quantised.values, quantised.scale.flatten(), torch.float32) == 0).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_a_number_does_not_turn_into_one(bad: float) -> None:
    x = numbers(3, 8)
    x[1, 2] = bad
    quantised = quantise(x, "rowwise")
    finite = torch.isfinite(dequantise(quantised.values, quantised.scale.flatten(), torch.float32))
    assert finite[0].all() and finite[2].all() and not finite[1, 2]


@given(st.integers(1, 5000), st.integers(1, 20000))
def test_chunks_cover_every_row_once(rows: int, columns: int) -> None:
    covered = [row for chunk in row_chunks(rows, columns) for row in range(chunk.start, chunk.stop)]
    assert covered == list(range(rows))
