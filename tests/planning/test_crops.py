"""Crops of passes: they hold the region with its padding, lie on the picture, and stretch nothing."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from qied.edit import PassSpec
from qied.planning.edits.crops import LEAST_CONTEXT, clipped, crop_of, feather_of
from qied.planning.edits.geometry import MAX_ASPECT
from qied.planning.profiles.model_profile import shipped_profiles

MODEL = shipped_profiles()["qwen-image-edit-2511"]
BUILTIN = shipped_profiles()["builtin"]
CAP = 1 << 21


def made(box: tuple[int, int, int, int], **changes: object) -> PassSpec:
    left, top, right, bottom = box
    fields = {"strength": 0.5, "padding": 32, "feather": 8, "steps": 20, "max_pixels": CAP} | changes
    return PassSpec(left=left, top=top, width=right - left, height=bottom - top, **fields)  # type: ignore[arg-type]


@st.composite
def passes(draw: st.DrawFn) -> tuple[PassSpec, tuple[int, int]]:
    width = draw(st.integers(8, 4000))
    height = draw(st.integers(max(1, width // 30 + 1), min(4000, width * 30)))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    scale = draw(st.sampled_from([0.0, 0.0, 0.5, 1.0, 1.7, 4.0]))
    padding = draw(st.sampled_from([0, 1, 32, 500]))
    return made((left, top, right, bottom), padding=padding, scale=scale), (width, height)


@settings(deadline=None, max_examples=400)
@given(passes())
def test_a_crop_holds_its_region_on_a_grid_of_the_model(given_pass: tuple[PassSpec, tuple[int, int]]) -> None:
    each, canvas = given_pass
    crop = crop_of(each, canvas, MODEL)
    left, top, right, bottom = crop.edges
    assert 0 <= left <= max(0, each.left - min(each.padding, each.left)) and 0 <= top <= each.top
    assert each.box[2] <= right <= canvas[0] and each.box[3] <= bottom <= canvas[1]
    assert right >= min(canvas[0], each.box[2] + each.padding) and bottom >= min(canvas[1], each.box[3] + each.padding)
    assert crop.width % 16 == crop.height % 16 == 0 and crop.width * crop.height <= CAP
    assert 0 <= crop.columns < crop.width and 0 <= crop.rows < crop.height
    # Each side is drawn at the same scale, to half a pixel.
    scales = [(content - 0.5, content + 0.5, side) for content, side in zip(crop.content, crop.size, strict=True)]
    lows, highs = [low / side for low, _, side in scales], [high / side for _, high, side in scales]
    smallest = min(crop.size)
    if smallest * highs[0] > 16:  # below, a side is at least one pixel
        assert max(lows) <= min(highs) + 1e-9
    # The grid may make the longer side a little longer yet.
    assert max(crop.size) <= MAX_ASPECT * min(crop.size) + 64 or min(crop.size) in canvas


@settings(deadline=None, max_examples=200)
@given(passes())
def test_at_the_pictures_own_scale_no_pixel_is_made_up_while_there_are_others(
    given_pass: tuple[PassSpec, tuple[int, int]],
) -> None:
    each, canvas = given_pass
    each = made(each.box, padding=each.padding, scale=1.0)
    crop = crop_of(each, canvas, MODEL)
    if crop.width * crop.height < CAP // 2:
        assert crop.content == crop.size
        for filled, side, grid, length in (
            (crop.columns, crop.size[0], crop.width, canvas[0]),
            (crop.rows, crop.size[1], crop.height, canvas[1]),
        ):
            assert filled == 0 or (side == length and grid - length < 16)


def test_a_small_crop_is_brought_to_the_models_own_size_and_all_of_a_picture_keeps_its_own() -> None:
    small = crop_of(made((500, 500, 756, 756), padding=0), (2000, 1500), MODEL)
    assert small.size == (256, 256) and (small.width, small.height) == (1024, 1024)
    tiny = crop_of(made((500, 500, 532, 532), padding=0), (2000, 1500), MODEL)
    assert (tiny.width, tiny.height) == (128, 128), "no side becomes more than four times as long"
    whole = crop_of(made((0, 0, 640, 400), padding=0), (640, 400), MODEL)
    assert (whole.width, whole.height, whole.size) == (640, 400, (640, 400))


def test_a_crop_lies_at_the_same_place_of_another_picture_of_the_same_shape() -> None:
    crop = crop_of(made((100, 40, 164, 104), padding=0, scale=1.0), (400, 200), MODEL)
    assert crop.edges == (100, 40, 164, 104)
    assert crop.view((1600, 800)).box == (400.0, 160.0, 656.0, 416.0)
    assert crop.view((400, 200), (32, 32)).size == (32, 32)


def test_the_feather_leaves_something_of_a_small_region() -> None:
    assert feather_of(made((0, 0, 100, 100), feather=8), (0, 0, 100, 100)) == 8
    assert feather_of(made((0, 0, 100, 12), feather=8), (0, 0, 100, 13)) == 3
    assert clipped((50, 50, 500, 500), (60, 60)) == (50, 50, 60, 60)
    assert clipped((90, 90, 99, 99), (60, 60)) == (59, 59, 60, 60)


def test_steps_are_left_out_as_in_diffusers() -> None:
    taken = {strength: made((0, 0, 9, 9), strength=strength).own_steps for strength in (0.01, 0.25, 0.5, 0.99, 1.0)}
    assert taken == {0.01: 1, 0.25: 5, 0.5: 10, 0.99: 20, 1.0: 20}


def left_open(box: tuple[int, int, int, int], context: float = 1.0) -> PassSpec:
    return made(box, padding=0, context=context)


def test_context_is_a_multiple_of_the_region_as_far_as_the_models_own_area_goes() -> None:
    canvas = (4000, 4000)
    small = crop_of(left_open((2000, 2000, 2100, 2200)), canvas, MODEL)
    assert small.edges[0] <= 1800 and small.edges[2] >= 2300 and small.edges[1] <= 1800 and small.edges[3] >= 2400
    # 1500 pixels on each side would be nine times as many as the model draws at its own size.
    medium = crop_of(left_open((1700, 1700, 2300, 2300)), canvas, MODEL)
    assert medium.size[0] >= 1000 and medium.size[0] * medium.size[1] <= 1.2 * MODEL.geometry.vae_pixels
    large = crop_of(left_open((1000, 1000, 2200, 2200)), canvas, MODEL)
    assert large.edges[0] <= 1000 - LEAST_CONTEXT and large.edges[2] >= 2200 + LEAST_CONTEXT


def test_the_built_in_model_draws_in_the_whole_picture_and_in_its_own_area_of_larger_ones() -> None:
    context = BUILTIN.geometry.crop_context
    for canvas in ((256, 256), (288, 240), (200, 300)):
        assert crop_of(left_open((20, 20, 50, 50), context), canvas, BUILTIN).size == canvas
    part = crop_of(left_open((500, 500, 530, 530), context), (1024, 1024), BUILTIN)
    assert 256 <= part.size[0] <= 288 and part.content == part.size


@settings(deadline=None, max_examples=200)
@given(passes(), st.sampled_from([0.5, 1.0, 16.0]))
def test_context_never_takes_from_what_was_asked_for(
    given_pass: tuple[PassSpec, tuple[int, int]], context: float
) -> None:
    each, canvas = given_pass
    crop = crop_of(replace(each, context=context), canvas, MODEL)
    for place in (0, 1):
        assert crop.edges[place] <= max(0, each.box[place] - each.padding)
        assert crop.edges[place + 2] >= min(canvas[place], each.box[place + 2] + each.padding)
    assert crop.width * crop.height <= CAP
