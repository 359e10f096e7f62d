"""The options of an edit as the command line writes them."""

from __future__ import annotations

from typing import Any

import pytest
from qied_client.cli.editing.options import edit_options
from qied_client.errors import InvalidRequest

PLAIN: dict[str, Any] = dict.fromkeys(
    ("negative", "steps", "cfg", "width", "height", "preset", "precision", "lora", "mask", "mask_mode", "size")
)


def made(**options: Any) -> dict[str, Any]:
    return edit_options(**{**PLAIN, "output_format": "png", "fit": False, "priority": 0, **options})


def test_a_size_is_two_sides_or_the_pictures_own() -> None:
    found = made(size="1280x720")
    assert (found["width"], found["height"], "size" in found) == (1280, 720, False)
    own = made(size="same")
    assert (own["width"], own["height"], own["size"]) == (None, None, "same")
    assert "size" not in made() and "mask_mode" not in made()
    assert made(mask_mode="opaque")["mask_mode"] == "opaque"


@pytest.mark.parametrize("size", ["", "big", "1280", "1280x", "x720", "12x3x4", "-1x5", "1\u0663x5"])
def test_what_is_no_size_is_refused_with_both_ways_to_write_one(size: str) -> None:
    with pytest.raises(InvalidRequest, match="neither a size nor 'same'") as caught:
        made(size=size)
    assert caught.value.remedy == "Write --size 1024x768, or --size same."


def test_two_ways_to_say_a_size_are_not_taken_together() -> None:
    with pytest.raises(InvalidRequest, match="--width or --height is given too"):
        made(size="640x480", width=640)
