"""Requests become complete edits; sizes above the cap are refused with the nearest, or fitted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qied_client.errors import AboveCap, InvalidRequest, PrecisionUnavailable, UnknownLora, UnknownPreset
from qied_client.protocol.request import EditRequest, LoraChoice

from qied.planning.model_profile import shipped_profiles
from qied.planning.plan import Execution, Plan, Sessions
from qied.planning.request_defaults import admitted, resolve
from qied.planning.serving import Serving


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
