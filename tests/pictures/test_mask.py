"""Whether a mask marks anything."""

from __future__ import annotations

import pytest
from PIL import Image
from qied_client.protocol import limits

from qied.pictures.mask import EMPTY_MASK, marks_nothing


@pytest.mark.parametrize(("level", "nothing"), [(0, True), (127, True), (128, False), (255, False)])
def test_a_mask_marks_something_where_one_pixel_counts_as_white(level: int, nothing: bool) -> None:
    mask = Image.new("L", (64, 48))
    mask.putpixel((63, 47), level)
    assert marks_nothing(mask) is nothing


def test_what_is_said_of_an_empty_mask_fits_a_message() -> None:
    assert len(EMPTY_MASK.encode()) <= limits.WARNING_BYTES
