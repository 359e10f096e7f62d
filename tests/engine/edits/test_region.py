"""Passes over regions: nothing outside changes, the rim fades inwards, and the inside is what was drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from qied.edit import EditSpec, PassSpec
from qied.engine.edits.context import EditInputs
from qied.engine.edits.region import Below, feathered, region_marks
from qied.planning.edits.views import Sight
from qied.planning.profiles.model_profile import shipped_profiles

SIGHT = Sight(shipped_profiles()["builtin"], 65536)
NOWHERE = (False, False, False, False)


def spec_of(size: tuple[int, int], each: PassSpec) -> EditSpec:
    grid = [-(-side // 16) * 16 for side in size]
    return EditSpec(
        ("a",), "x", None, 0, 4, 1.0, *grid, canvas="c", crop_width=size[0], crop_height=size[1], passes=(each,)
    )


def below_of(
    picture: Image.Image, box: tuple[int, int, int, int], mask: Image.Image | None = None, **changes: Any
) -> Below:
    left, top, right, bottom = box
    fields: dict[str, Any] = {"padding": 8, "feather": 8, "scale": 1.0, "max_pixels": 1 << 18} | changes
    each = PassSpec(
        strength=0.5, left=left, top=top, width=right - left, height=bottom - top, steps=4,
        mask="m" if mask is not None else None, **fields,
    )  # fmt: skip
    pictures = {"a": picture, "c": picture} | ({"m": mask} if mask is not None else {})
    inputs = EditInputs(spec_of(picture.size, each), pictures, SIGHT)
    drawing = inputs.drawing_of(each)
    return Below(picture, region_marks(inputs, each, drawing), drawing)


def noise(size: tuple[int, int], seed: int) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(levels)


@st.composite
def regions(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    width, height = draw(st.integers(20, 160)), draw(st.integers(20, 160))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return (width, height), (left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height)))


@settings(deadline=None, max_examples=80)
@given(
    regions(),
    st.integers(0, 40),
    st.integers(0, 24),
    st.sampled_from([0.0, 1.0, 1.3]),
    st.booleans(),
    st.sampled_from([0.0, 1.0, 16.0]),
)
def test_no_pixel_outside_the_region_changes_and_its_middle_is_what_was_drawn(
    region: tuple[tuple[int, int], tuple[int, int, int, int]],
    padding: int,
    feather: int,
    scale: float,
    masked: bool,
    context: float,
) -> None:
    size, (left, top, right, bottom) = region
    picture = noise(size, 1)
    painted = np.zeros((size[1], size[0]), bool)
    painted[top:bottom, left:right] = True
    mask = None
    if masked:
        # Of all greys, those from the middle up are painted.
        levels = np.random.default_rng(2).integers(0, 256, (size[1], size[0]), dtype=np.uint8)
        painted &= levels >= 128
        mask = Image.fromarray(levels)
    below = below_of(
        picture, (left, top, right, bottom), mask, padding=padding, feather=feather, scale=scale, context=context
    )
    drawn = Image.new("RGB", below.drawing.size, (1, 2, 3))
    before, after = np.asarray(picture), np.asarray(below.with_drawn(drawn))
    assert after.shape == before.shape
    assert (after[~painted] == before[~painted]).all()
    if not masked:
        assert (after[(top + bottom - 1) // 2, (left + right - 1) // 2] == (1, 2, 3)).all()
    if feather == 0:
        assert (after[painted] == (1, 2, 3)).all()


@settings(deadline=None, max_examples=60)
@given(regions())
def test_what_is_pasted_lies_where_it_was_taken_from(
    region: tuple[tuple[int, int], tuple[int, int, int, int]],
) -> None:
    size, box = region
    picture = noise(size, 3)
    below = below_of(picture, box)
    assert below.view.size == below.drawing.size
    assert below.with_drawn(below.view).tobytes() == picture.tobytes()


def test_the_rim_fades_inwards_over_twice_the_feather() -> None:
    marks = Image.new("L", (64, 64))
    marks.paste(255, (16, 16, 64, 48))
    alpha = np.asarray(feathered(marks, 4, NOWHERE)).astype(int)
    row = alpha[32]
    assert (row[:16] == 0).all() and 0 < row[16] < 30 and (row[24:56] == 255).all() and row[63] < 30
    assert (np.diff(row[16:25]) >= 0).all() and np.diff(row).max() < 60
    at_edge = np.asarray(feathered(marks, 4, (False, False, True, False)))
    assert (at_edge[32, 24:] == 255).all(), "nothing fades at the picture's own edge"


def test_a_line_that_is_thinner_than_the_feather_is_drawn_all_the_same() -> None:
    marks = Image.new("L", (64, 64))
    marks.paste(255, (10, 30, 50, 32))
    assert np.asarray(feathered(marks, 8, NOWHERE)).max() == 255
    assert np.asarray(feathered(Image.new("L", (9, 9)), 8, NOWHERE)).max() == 0


def test_a_region_of_all_keeps_nothing_and_another_keeps_the_rest_in_the_latents() -> None:
    picture = noise((64, 48), 4)
    assert below_of(picture, (0, 0, 64, 48)).marks.getextrema() == (255, 255)
    assert below_of(picture, (0, 0, 32, 48)).marks.getextrema() == (0, 255)


def test_a_preview_shows_the_whole_picture() -> None:
    picture = Image.new("RGB", (400, 200), (200, 0, 0))
    shown = below_of(picture, (200, 0, 400, 200), padding=0, feather=0).with_preview(Image.new("RGB", (25, 25), "blue"))
    assert shown.size == (256, 128)
    assert shown.getpixel((20, 60)) == (200, 0, 0) and shown.getpixel((200, 60)) == (0, 0, 255)
