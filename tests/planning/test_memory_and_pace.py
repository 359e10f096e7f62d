"""What an edit costs: bytes from sizes, milliseconds from what was measured."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from qied.edit import EditSpec
from qied.planning.memory import footprint, tokens
from qied.planning.model_profile import shipped_profiles
from qied.planning.pace import Pace

PROFILE = shipped_profiles()["qwen-image-edit-2511"]
SPEC = EditSpec(("a" * 64,), "make it blue", None, 1, 20, 1.0, 1024, 1024)
sides = st.integers(1, 128).map(lambda n: n * 16)


def test_a_square_megapixel_has_4096_target_tokens_and_a_reference_up_to_a_quarter_more():
    target, references, text = tokens(SPEC, PROFILE)
    assert target == 4096
    assert 4096 <= references <= 5120
    assert 196 < text < 1024


def test_decoding_a_megapixel_is_planned_with_at_least_what_was_measured():
    assert footprint(SPEC, PROFILE, 2).arena >= 4_400_000_000


@given(width=sides, height=sides, images=st.integers(1, 3))
def test_more_of_anything_never_takes_less_memory(width, height, images):
    spec = replace(SPEC, width=width, height=height, images=("a" * 64,) * images)
    base = footprint(spec, PROFILE, 2)
    for larger in (
        replace(spec, width=width + 16),
        replace(spec, images=("a" * 64,) * (images + 1)),
        replace(spec, true_cfg_scale=4.0, negative_prompt=" "),
        replace(spec, mask="b" * 64),
        replace(spec, prompt=spec.prompt + " and more"),
    ):
        grown = footprint(larger, PROFILE, 2)
        assert grown.state >= base.state
        assert grown.arena >= base.arena
    assert footprint(spec, PROFILE, 4).arena == 2 * base.arena


def test_the_first_measured_step_replaces_the_guess_and_later_ones_move_it():
    pace = Pace(PROFILE, "cuda")
    pace.learn(SPEC, 200.0)
    alone = pace.edit_ms(SPEC)
    assert 20 * 200 <= alone <= 25 * 200
    pace.learn(SPEC, 400.0)
    assert alone < pace.edit_ms(SPEC) < 2 * alone


def test_guidance_doubles_the_time_of_an_edit():
    pace = Pace(PROFILE, "cuda")
    pace.learn(SPEC, 200.0)
    assert pace.edit_ms(replace(SPEC, true_cfg_scale=4.0, negative_prompt=" ")) == 2 * pace.edit_ms(SPEC)
