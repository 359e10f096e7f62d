"""Requests become complete edits; sizes above the cap are refused with the nearest, or fitted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from qied_client.errors import AboveCap, InvalidRequest, PrecisionUnavailable, UnknownLora, UnknownPreset
from qied_client.protocol import limits
from qied_client.protocol.fields import checked
from qied_client.protocol.request import EditRequest, LoraChoice, Redraw

from qied.planning.edits.geometry import content_within
from qied.planning.edits.views import source_view
from qied.planning.plan import Execution, Plan, SecondPrecision, Sessions
from qied.planning.profiles.model_profile import shipped_profiles
from qied.planning.requests.request_defaults import admitted, resolve
from qied.planning.requests.serving import Serving


def serving_up_to(pixels):
    run = Execution("cuda", 0, "bf16", None, "bf16", 60, 60, 0, "resident", None, None, False, 0, 1024 * 1024)
    made = Plan("m", "card", "profile", "bf16", None, (), 0, 0, 0, 0, pixels, 1024 * 1024, Sessions(8, 8), run, ())
    return Serving(shipped_profiles()["qwen-image-edit-2511"], (made,))


SERVING = serving_up_to(1024 * 1024)
IMAGE = "a" * 64


def request(**fields):
    return EditRequest(**{"images": (IMAGE,), "prompt": "do it", "seed": 1, **fields})


def test_defaults_come_from_the_preset_then_the_profile():
    spec = resolve(request(), [(1000, 1000)], SERVING).spec
    assert (spec.steps, spec.true_cfg_scale, spec.negative_prompt) == (40, 4.0, " ")
    assert (spec.width, spec.height) == (1024, 1024)
    quick = resolve(request(preset="preview"), [(1000, 1000)], SERVING).spec
    assert (quick.steps, quick.true_cfg_scale, quick.negative_prompt) == (4, 1.0, None)


def test_what_the_request_says_wins_over_the_preset():
    spec = resolve(request(preset="preview", steps=9, true_cfg_scale=2.0), [(1000, 1000)], SERVING).spec
    assert (spec.steps, spec.true_cfg_scale) == (9, 2.0)


def test_the_last_picture_gives_the_default_aspect():
    spec = resolve(request(images=(IMAGE, IMAGE)), [(1000, 1000), (2000, 1000)], SERVING).spec
    assert spec.width > 1.9 * spec.height


@pytest.mark.parametrize(
    ("fields", "sizes", "error"),
    [
        ({"images": ()}, [], InvalidRequest),
        ({"images": (IMAGE,) * 4}, [(9, 9)] * 4, InvalidRequest),
        ({}, [(3300, 100)], InvalidRequest),
        ({"preset": "turbo"}, [(9, 9)], UnknownPreset),
        ({"loras": (LoraChoice("style"),)}, [(9, 9)], UnknownLora),
        ({"precision": "fp8"}, [(9, 9)], PrecisionUnavailable),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(fields, sizes, error):
    with pytest.raises(error) as caught:
        resolve(request(**fields), sizes, SERVING)
    assert caught.value.remedy


def test_a_size_above_the_cap_is_refused_with_the_nearest_that_fits():
    wanted = request(width=2048, height=1024)
    resolved = resolve(wanted, [(100, 100)], SERVING)
    with pytest.raises(AboveCap) as caught:
        admitted(resolved, wanted, SERVING)
    assert caught.value.details["max_pixels"] == 1024 * 1024
    width, height = caught.value.details["width"], caught.value.details["height"]
    assert admitted(resolve(request(width=width, height=height), [(1, 1)], SERVING), wanted, SERVING)


@given(
    width=st.integers(1, 512).map(lambda n: n * 16),
    height=st.integers(1, 512).map(lambda n: n * 16),
    cap=st.integers(16 * 16 * 64, 4096 * 4096),
)
def test_a_fitted_size_is_within_the_cap_keeps_the_grid_and_uses_most_of_it(width, height, cap):
    serving = serving_up_to(cap)
    wanted = request(width=width, height=height, on_cap="fit")
    spec = admitted(resolve(wanted, [(1, 1)], serving), wanted, serving)
    assert spec.width % 16 == spec.height % 16 == 0
    if width * height <= cap:
        assert (spec.width, spec.height) == (width, height)
    elif max(width, height) <= 8 * min(width, height):
        assert spec.width * spec.height <= cap
        assert spec.width * spec.height >= cap // 3


def test_an_edit_says_where_its_settings_come_from():
    def preset(**fields):
        return resolve(request(**fields), [(1000, 1000)], SERVING).spec.preset

    assert [preset(), preset(steps=9), preset(preset="preview", steps=9, true_cfg_scale=2.0)] == [
        "draft",
        "draft",
        "preview",
    ]
    assert preset(steps=9, true_cfg_scale=2.0) == ""
    assert resolve(request(), [(1000, 1000)], SERVING).spec.precision == "bf16"


def test_a_size_that_is_made_smaller_is_told_with_both_sizes():
    small = serving_up_to(512 * 512)
    asked = resolve(request(width=1024, height=1024, on_cap="fit"), [(1, 1)], small)
    assert asked.warnings == (
        "1024 x 1024 pixels were asked for, but this daemon makes at most 262144 pixels, so the result has 512 x 512. "
        "To choose the size yourself, ask for one within that limit.",
    )
    usual = resolve(request(on_cap="fit"), [(1000, 1000)], small)
    assert usual.warnings[0].startswith("This picture's usual size is 1024 x 1024 pixels, but this daemon makes at")
    assert resolve(request(on_cap="fit"), [(1000, 1000)], SERVING).warnings == ()
    assert resolve(request(width=1024, height=1024), [(1, 1)], small).warnings == (), "it is refused"


def test_a_negative_prompt_without_effect_is_told():
    def told(**fields):
        return resolve(request(true_cfg_scale=1.0, **fields), [(9, 9)], SERVING).warnings

    assert told(negative_prompt="blurred") == (
        "The negative prompt has no effect at a CFG scale of 1. Leave it out, or use a CFG scale above 1.",
    )
    assert told(negative_prompt=" ") == told() == ()


def test_warnings_about_the_model_come_first_and_all_fit_a_message():
    served = replace(SERVING, warnings=("The file \udcff is odd. " + "x" * 400, *map(str, range(9))))
    warnings = resolve(request(), [(9, 9)], served).warnings
    assert len(warnings) == limits.WARNINGS
    assert warnings[0].startswith("The file ? is odd. xxx") and warnings[0].endswith("x...")
    assert max(len(text.encode()) for text in warnings) == limits.WARNING_BYTES
    spec = resolve(request(), [(9, 9)], SERVING).spec
    assert spec.with_warnings(["\N{SNOWMAN}" * 200]).with_warnings(["a", "a"]).warnings[1:] == ("a",)
    assert checked(spec.with_warnings(["\N{SNOWMAN}" * 200])).warnings[0].endswith("\N{SNOWMAN}...")


@pytest.mark.parametrize(
    ("size", "target"),
    [((1080, 720), (1088, 720)), ((1, 1), (16, 16)), ((1024, 768), (1024, 768)), ((99, 17), (112, 32))],
)
def test_the_pictures_own_size_can_be_had_back(size, target):
    spec = resolve(request(size="same"), [(640, 480), size], SERVING).spec
    assert (spec.width, spec.height) == target and spec.size == size
    view = source_view(spec, size)
    assert view.content == size and view.size == target


def test_an_own_size_above_the_cap_is_refused_or_made_smaller_with_a_word():
    resolved = resolve(request(size="same"), [(3000, 2001)], SERVING)
    with pytest.raises(AboveCap):
        admitted(resolved, request(size="same"), SERVING)
    fitted = resolve(request(size="same", on_cap="fit"), [(3000, 2001)], SERVING)
    assert (fitted.spec.width, fitted.spec.height) == fitted.nearest
    assert fitted.spec.size == content_within(fitted.nearest, 3000, 2001)
    assert "3008 x 2016 pixels were asked for" in fitted.warnings[0]


def test_two_sizes_are_not_taken_together():
    with pytest.raises(InvalidRequest, match="size: 'same'"):
        request(size="same", width=512, height=512).validated()


SIDES = st.integers(1, 4096)
PROPORTIONS = st.tuples(SIDES, SIDES).filter(lambda size: max(size) <= 32 * min(size))


@given(size=PROPORTIONS, cap=st.integers(64 * 64, 2048 * 2048), rule=st.sampled_from(["default", "same"]))
@example(size=(2977, 2921), cap=2048 * 2048, rule="default")  # 1005 rows on a grid of 1024
def test_the_size_of_any_result_can_be_asked_for_and_gives_that_size(size, cap, rule):
    serving = serving_up_to(cap)
    made = resolve(request(size=rule, on_cap="fit"), [size], serving).spec
    width, height = made.drawn_size
    asked = request(width=width, height=height)
    again = admitted(resolve(asked, [size], serving), asked, serving)
    assert again.drawn_size == made.drawn_size and again.width % 16 == again.height % 16 == 0
    usual = resolve(request(), [size], serving)
    if rule == "default" and usual.fits:
        assert (again.width, again.height) == (made.width, made.height), "drawn on the same grid: the same picture"


@given(width=st.integers(1, 1024), height=st.integers(1, 1024), size=PROPORTIONS)
def test_every_size_within_the_cap_is_drawn_on_a_grid_that_has_room_for_it(width, height, size):
    spec = resolve(request(width=width, height=height), [size], SERVING).spec
    assert spec.drawn_size == (width, height)
    usual = resolve(request(), [size], SERVING).spec
    if (width, height) != usual.drawn_size:
        assert 0 <= spec.width - width < 16 and 0 <= spec.height - height < 16
    assert (spec.sized == "asked") == bool(spec.crop_width)


def test_a_size_off_the_grid_that_is_above_the_cap_is_told_as_it_was_asked_for():
    fitted = request(width=1500, height=1001, on_cap="fit")
    spec = admitted(resolve(fitted, [(600, 400)], SERVING), fitted, SERVING)
    assert spec.width * spec.height <= 1024 * 1024 and spec.crop_width == 0
    assert "1500 x 1001 pixels were asked for" in spec.warnings[0]


def passes(serving=SERVING, *regions, **fields):
    wanted = request(canvas=IMAGE, redraw=regions, **fields)
    return resolve(wanted, [(1000, 1000)], serving, canvas=(1000, 1000)).spec.passes


def in_fp8(second):
    (made,) = SERVING.plans
    run = replace(made.execution, precision="fp8", second=SecondPrecision("bf16", 3, pin=True) if second else None)
    return Serving(SERVING.profile, (replace(made, precision="fp8", execution=run),))


def test_a_pass_may_name_the_second_precision_and_the_daemons_own():
    names = [None, "auto", "fp8", "bf16"]
    found = passes(in_fp8(second=True), *(Redraw(precision=name) for name in names[:2]))
    found += passes(in_fp8(second=True), *(Redraw(precision=name) for name in names[2:]))
    assert [each.precision for each in found] == ["", "", "", "bf16"]


@pytest.mark.parametrize(
    ("second", "name", "held"),
    [(False, "bf16", "in fp8 alone, not in 'bf16'"), (True, "int8", "in fp8 and bf16, not in 'int8'")],
)
def test_a_precision_that_is_not_held_is_refused_with_what_the_owner_can_do(second, name, held):
    with pytest.raises(PrecisionUnavailable, match=held) as caught:
        passes(in_fp8(second), Redraw(precision=name))
    assert ("model.second_precision" in caught.value.remedy) == (not second)


def test_a_region_without_box_in_the_second_precision_is_a_refiner_in_it():
    (refiner,) = passes(in_fp8(second=True), refine=0.2)
    (other,) = passes(in_fp8(second=True), Redraw(strength=0.2, feather=0, padding=0, precision="bf16"))
    assert replace(other, precision="") == refiner


def test_padding_that_is_left_open_is_the_models_context():
    assert [(each.padding, each.context) for each in passes(SERVING, Redraw(), Redraw(padding=5))] == [
        (0, SERVING.profile.geometry.crop_context),
        (5, 0.0),
    ]


def test_a_size_whose_grid_alone_is_above_the_cap_is_refused_with_both():
    asked = request(width=1020, height=1028)
    with pytest.raises(AboveCap, match="1020 x 1028 is drawn on 1024 x 1040, which are 1064960 pixels"):
        admitted(resolve(asked, [(600, 400)], SERVING), asked, SERVING)
