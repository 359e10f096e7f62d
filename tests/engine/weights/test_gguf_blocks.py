"""Blocks of GGUF files expand to the very bits that the `gguf` package expands them to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from qied.engine.weights import gguf_blocks
from qied.engine.weights.gguf_blocks import expand, numbers_of
from qied.weights.gguf_types import BLOCKS, EXPANDED
from tests.weights.gguf_files import KINDS, MADE_BY_THE_PACKAGE, meant, quantisation, random_blocks
from tools.gguf_quantise import quantise_blocks


def expanded(kind: str, stored: np.ndarray) -> np.ndarray:
    return expand(torch.from_numpy(stored), kind, torch.float32).numpy()


def test_every_type_that_is_said_to_be_expanded_is() -> None:
    assert set(KINDS) == EXPANDED == set(gguf_blocks._EXPANDED)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(data=st.data())
def test_any_bytes_mean_what_the_package_takes_them_for(kind: str, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 4))
    blocks = data.draw(arrays.arrays(np.uint8, (count, BLOCKS[kind].nbytes)))
    with np.errstate(all="ignore"):
        expected = meant(kind, blocks)
    assert np.array_equal(expanded(kind, blocks), expected, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_stay_rows_and_are_expanded_to_the_bit(kind: str) -> None:
    stored = random_blocks(kind, 12, 512, np.random.default_rng(3))
    found = expanded(kind, stored)
    assert found.shape == (12, 512) and numbers_of(kind, stored.shape[1]) == 512
    assert np.array_equal(found, meant(kind, stored))
    assert np.isfinite(found).all() and found.std() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_into_chunks_changes_nothing_and_16_bits_are_rounded_once(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = torch.from_numpy(random_blocks(kind, 7, 256, np.random.default_rng(4)))
    whole = expand(stored, kind, torch.float32)
    monkeypatch.setattr("qied.engine.weights.quantise._CHUNK_ELEMENTS", 600)
    assert torch.equal(expand(stored, kind, torch.float32), whole)
    assert torch.equal(expand(stored, kind, torch.bfloat16), whole.to(torch.bfloat16))


@pytest.mark.parametrize("kind", MADE_BY_THE_PACKAGE)
def test_what_the_package_makes_of_numbers_comes_back_near_them(kind: str) -> None:
    import gguf

    numbers = np.random.default_rng(5).normal(0, 0.05, (8, 256)).astype(np.float32)
    found = expanded(kind, gguf.quantize(numbers, quantisation(kind)))
    assert np.abs(found - numbers).max() < 0.03
    assert np.corrcoef(found.ravel(), numbers.ravel())[0, 1] > 0.98


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        *(("Q8_0", 0.006), ("Q6_K", 0.018), ("Q5_K", 0.038), ("Q5_1", 0.040), ("Q5_0", 0.042)),
        *(("Q4_K", 0.075), ("IQ4_NL", 0.078), ("IQ4_XS", 0.079), ("Q4_1", 0.082), ("Q4_0", 0.084)),
        *(("Q3_K", 0.15), ("Q2_K", 0.28)),
    ],
)
def test_blocks_that_are_made_of_numbers_err_no_more_than_their_type_has_to(kind: str, error: float) -> None:
    numbers = torch.randn((16, 512), generator=torch.Generator().manual_seed(6)) * 0.02
    blocks = quantise_blocks(numbers, kind)
    found = expand(blocks, kind, torch.float32)
    assert 0.8 * error < float((found - numbers).norm() / numbers.norm()) < error
    assert torch.equal(torch.from_numpy(meant(kind, blocks.numpy())), found)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_equal_numbers_and_of_zeros_come_back_as_such(kind: str) -> None:
    numbers = torch.zeros((3, 256))
    numbers[1], numbers[2] = 0.5, -0.5
    found = expand(quantise_blocks(numbers, kind), kind, torch.float32)
    assert not found[0].any()
    assert (found[1:] - numbers[1:]).abs().max() < 0.04
