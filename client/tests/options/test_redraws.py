"""Passes over regions, however they are written down, and back as text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qied_client.errors import InvalidRequest
from qied_client.options.redrawing import redrawing
from qied_client.options.redraws import given_redraws, redraw_text, refine_strength
from qied_client.options.request import edit_request
from qied_client.protocol.request import Redraw

BOX = (10, 20, 300, 200)


@pytest.mark.parametrize(
    "value",
    [
        BOX,
        list(BOX),
        np.array(BOX).tolist(),
        "10,20,300,200",
        " 10, 20 ,300,200",
        {"box": BOX},
        [BOX],
        [{"box": list(BOX)}],
    ],
)
def test_a_box_is_one_pass_in_every_form(value: object) -> None:
    assert [each.redraw for each in given_redraws(value)] == [Redraw(box=BOX)]


def test_several_passes_keep_their_order_and_their_masks() -> None:
    first, second = given_redraws([{"mask": b"m", "strength": np.float32(0.25)}, "1,2,3,4,strength=1,padding=0"])
    assert (first.redraw, first.mask) == (Redraw(strength=0.25), b"m")
    assert second.redraw == Redraw(box=(1, 2, 3, 4), strength=1.0, padding=0)
    assert given_redraws(None) == given_redraws(()) == ()


@given(
    st.builds(
        Redraw,
        strength=st.sampled_from([0.01, 0.3, 0.5, 1.0]),
        box=st.none() | st.tuples(*[st.integers(0, 8192)] * 4),
        padding=st.integers(0, 100),
        feather=st.integers(0, 100),
        steps=st.none() | st.integers(1, 200),
        scale=st.none() | st.sampled_from([0.5, 2.0]),
        mask_mode=st.sampled_from(["auto", "white"]),
    )
)
def test_text_of_a_pass_is_the_pass(each: Redraw) -> None:
    if text := redraw_text(each):
        assert [found.redraw for found in given_redraws(text)] == [each]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("10,20,300", "does not begin with a box"),
        ("strength=0.4,10,20,30,40", "does not begin with a box"),
        ("1,2,3,4,strength=much", "'much' is not a number"),
        ({"boxes": BOX}, "'boxes' is not an option of a pass"),
        ({"box": (1, 2, 3)}, "is not a box"),
        (7, "'7' is not a pass"),
        ([3.5], "'3.5' is not a pass"),
    ],
)
def test_what_is_no_pass_is_refused_with_what_is_allowed(value: object, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        given_redraws(value)
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"redraw": {"strength": 0.0}}, r"redraw\[0\].strength: must be a number from 0.01 to 1"),
        ({"redraw": (1, 2, 0, 4)}, "0 x 4 pixels are nothing to draw"),
        ({"redraw": [BOX, BOX, BOX], "refine": 0.2}, "more than 3"),
        ({"refine": 1.5}, "refine: must be a number from 0 to 1"),
    ],
)
def test_a_request_checks_its_passes(options: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        edit_request("x", 1, options)


def test_a_refiner_has_a_usual_strength() -> None:
    assert [refine_strength(value) for value in (None, False, True, 0.4)] == [0.0, 0.0, 0.2, 0.4]


def test_a_redraw_is_an_edit_on_a_canvas() -> None:
    pictures, prompt, options = redrawing(b"c", "a hat", None, {"box": BOX, "strength": 0.4, "seed": 3})
    assert (pictures, prompt) == ([b"c"], "a hat")
    assert options == {"redraw": {"box": BOX, "strength": 0.4}, "seed": 3, "canvas": b"c"}
    assert redrawing(b"c", "x", [b"a", b"b"], {})[0] == [b"a", b"b"]
    assert redrawing(b"c", "x", None, {"refine": True})[2] == {"refine": True, "canvas": b"c"}
    assert redrawing(b"c", "x", None, {})[2] == {"redraw": {}, "canvas": b"c"}
