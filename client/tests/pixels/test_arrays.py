"""Arrays of every range and layout that people have, and what is refused of them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from qied_client.errors import InvalidRequest
from qied_client.pixels.arrays import levels_of

SHAPES = st.tuples(st.integers(5, 9), st.integers(5, 9)) | st.tuples(
    st.integers(5, 9), st.integers(5, 9), st.sampled_from([3, 4])
)
LEVELS = arrays.arrays(np.uint8, SHAPES)
FLOATS = ["float16", "float32", "float64"]


class Tensor:
    """What of a torch tensor is used, for environments without torch."""

    def __init__(self, array: np.ndarray[Any, Any], dtype: str = "") -> None:
        self.array = array
        self.dtype = f"torch.{dtype or array.dtype}"
        self.shape = array.shape

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def float(self) -> Tensor:
        return Tensor(self.array.astype(np.float32))

    def numpy(self) -> np.ndarray[Any, Any]:
        if "bfloat16" in self.dtype:
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.array


@given(LEVELS, st.sampled_from([*FLOATS, "uint16"]))
def test_every_level_comes_back_from_every_range(levels: np.ndarray[Any, Any], dtype: str) -> None:
    white = 65535 if dtype == "uint16" else 1
    levels[0, 0] = 255
    scaled = (levels.astype(np.float64) * white / 255).astype(dtype)
    assert np.array_equal(levels_of(scaled), levels)


@given(LEVELS)
def test_the_layout_does_not_matter(levels: np.ndarray[Any, Any]) -> None:
    channels_first = np.moveaxis(levels, -1, 0) if levels.ndim == 3 else levels[None]
    for given_as in (Tensor(levels), Tensor(channels_first), Tensor(channels_first[None])):
        assert np.array_equal(levels_of(given_as), levels)
    batch = levels[None] if levels.ndim == 3 else levels[None, :, :, None]
    assert np.array_equal(levels_of(batch), levels)


@given(arrays.arrays(np.float32, (5, 5), elements=st.floats(-1000, 1000, width=32)))
def test_floats_are_rounded_or_refused_with_their_range(values: np.ndarray[Any, Any]) -> None:
    if values.min() > -0.5 / 255 and values.max() < 255.5 / 255:
        assert np.abs(levels_of(values) - values * 255).max() <= 0.5 + 1e-3
        return
    with pytest.raises(InvalidRequest) as caught:
        levels_of(values)
    assert f"from {values.min():.6g} to {values.max():.6g}" in caught.value.message


@pytest.mark.parametrize(
    ("least", "most", "remedy"), [(0, 255, "Divide it by 255"), (-1, 1, r"\(array \+ 1\) / 2"), (-0.1, 1.1, "clip")]
)
def test_the_remedy_fits_the_range(least: float, most: float, remedy: str) -> None:
    with pytest.raises(InvalidRequest, match=remedy):
        levels_of(np.array([[least, most]], np.float32))


def test_a_rounding_error_is_not_out_of_range() -> None:
    assert levels_of(np.array([[-1e-3, 1 + 1e-3]])).tolist() == [[0, 255]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_refused(value: float) -> None:
    with pytest.raises(InvalidRequest, match="not finite"):
        levels_of(np.array([[0.5, value]]))


def test_booleans_are_black_and_white() -> None:
    assert levels_of(np.array([[True, False]])).tolist() == [[255, 0]]


def test_16_bits_that_look_like_8_are_refused_instead_of_black() -> None:
    with pytest.raises(InvalidRequest, match="255, where white is 65535"):
        levels_of(np.full((4, 4), 255, np.uint16))
    assert levels_of(np.zeros((4, 4), np.uint16)).max() == 0


@pytest.mark.parametrize(
    ("array", "remedy"),
    [
        (np.zeros((3, 8, 8), np.uint8), "moveaxis"),
        (np.zeros((2, 8, 8, 3), np.uint8), "as a list"),
        (np.zeros((8, 8, 2), np.uint8), "1, 3 or 4 channels"),
        (np.zeros((8, 8), np.int64), "astype"),
        (np.zeros((8, 8), np.complex64), "floats from 0 to 1"),
    ],
    ids=lambda value: f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else None,
)
def test_what_is_refused_says_what_to_give(array: Any, remedy: str) -> None:
    with pytest.raises(InvalidRequest, match=remedy):
        levels_of(array)


def test_a_tensor_without_numpy_numbers_is_widened() -> None:
    assert levels_of(Tensor(np.full((1, 8, 8), 0.5, np.float32), "bfloat16")).tolist() == [[128] * 8] * 8


def test_an_object_that_numpy_cannot_read_is_refused() -> None:
    class OnADevice:
        shape, dtype = (4, 4), "float32"

        def __array__(self, *_: Any, **__: Any) -> Any:
            raise TypeError("Implicit conversion is not allowed")

    with pytest.raises(InvalidRequest, match="Implicit conversion"):
        levels_of(OnADevice())


def test_tensors_of_torch_are_taken_in_all_their_types() -> None:
    torch = pytest.importorskip("torch")
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).repeat(3, 1, 1)
    expected = np.moveaxis(levels.numpy(), 0, -1)
    assert np.array_equal(levels_of(levels), expected)
    for dtype in (torch.float16, torch.float32, torch.float64):
        assert np.array_equal(levels_of((levels.double() / 255).to(dtype)[None]), expected)
    coarse = levels_of((levels.double() / 255).to(torch.bfloat16).requires_grad_())
    assert np.abs(coarse.astype(int) - expected).max() <= 1


def test_torch_is_not_imported_for_an_array() -> None:
    script = (
        "import sys, numpy; from qied_client.inputs import picture_bytes; picture_bytes(numpy.zeros((4, 4))); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
