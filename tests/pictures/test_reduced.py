"""Pictures that are extended to a grid keep every pixel of theirs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qied.pictures.reduced import extended


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 15), st.integers(0, 15), st.sampled_from(["L", "RGB"]))
def test_the_last_column_and_row_are_repeated(width: int, height: int, columns: int, rows: int, mode: str) -> None:
    channels = (3,) if mode == "RGB" else ()
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, *channels), dtype=np.uint8)
    found = np.asarray(extended(Image.fromarray(pixels), columns, rows))
    expected = np.pad(pixels, ((0, rows), (0, columns), *([(0, 0)] if channels else [])), mode="edge")
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_picture_on_the_grid_is_not_copied(mode: str) -> None:
    image = Image.new(mode, (16, 16))
    assert extended(image, 0, 0) is image
