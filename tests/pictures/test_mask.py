"""Whether a mask marks anything, and what is told where its convention was guessed."""

from __future__ import annotations

import pytest
from PIL import Image
from qied_client.errors import InvalidRequest
from qied_client.protocol import limits

from qied.pictures.mask import GUESSES, check_marks, told


@pytest.mark.parametrize(("level", "nothing"), [(0, True), (1, True), (127, True), (128, False), (255, False)])
def test_a_mask_marks_something_where_one_pixel_counts_as_white(level: int, nothing: bool) -> None:
    mask = Image.new("L", (64, 48))
    mask.putpixel((63, 47), level)
    if not nothing:
        check_marks(mask, "white")
        return
    with pytest.raises(InvalidRequest, match=f"its brightest pixel is {level} of 255") as caught:
        check_marks(mask, "auto")
    assert caught.value.details["field"] == "mask" and "mask_mode='transparent'" in caught.value.remedy


@pytest.mark.parametrize(
    ("mode", "guess"), [("transparent", ""), ("opaque", ""), ("auto", "painted"), ("auto", "hole")]
)
def test_a_mask_that_is_read_by_its_opacity_is_refused_in_those_words(mode: str, guess: str) -> None:
    part = "opaque" if "opaque" in mode or guess == "painted" else "transparent"
    with pytest.raises(InvalidRequest, match=f"Its {part} part marks what to edit"):
        check_marks(Image.new("L", (8, 8)), mode, guess)  # type: ignore[arg-type]


@pytest.mark.parametrize("guess", GUESSES)
def test_what_is_told_of_a_guess_fits_a_message_and_names_the_way_to_say_it(guess: str) -> None:
    warnings = told(guess)  # type: ignore[arg-type]
    assert len(warnings) == bool(guess)
    assert all(len(text.encode()) <= limits.WARNING_BYTES and "mask_mode='" in text for text in warnings)
