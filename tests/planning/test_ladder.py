"""The ladder: each rung gives one thing more, and profiles of a family share their lower rungs."""

from dataclasses import asdict
from itertools import pairwise

import pytest

from qied.planning.choosing.fitting import FIRST_SESSIONS, ladder
from qied.planning.profiles.hardware_profile import shipped_hardware_profiles
from qied.planning.profiles.model_profile import shipped_profiles

REAL = shipped_profiles()["qwen-image-edit-2511"]
CHOICES = {loaded.profile.name: loaded.profile.choose for loaded in shipped_hardware_profiles()}


@pytest.mark.parametrize("name", sorted(CHOICES))
@pytest.mark.parametrize("model", sorted(shipped_profiles()))
def test_every_rung_gives_more_than_the_one_below_and_less_of_nothing(name, model):
    rungs = ladder(shipped_profiles()[model], CHOICES[name], 0)
    order = {"streamed": 0, "resident": 1}
    for lower, upper in pairwise(rungs):
        below, above = asdict(lower), asdict(upper)
        below["text_encoder"], above["text_encoder"] = order[lower.text_encoder], order[upper.text_encoder]
        assert below != above
        assert all(above[key] >= below[key] for key in below), (lower, upper)


def test_sessions_come_before_blocks_and_blocks_before_larger_pictures():
    rungs = ladder(REAL, CHOICES["ada-24gb"], 0)
    first_block = next(rung for rung in rungs if rung.resident)
    assert (first_block.max_pixels, first_block.sessions) == (1024 * 1024, FIRST_SESSIONS)
    first_larger = next(rung for rung in rungs if rung.max_pixels > 1024 * 1024)
    assert first_larger.resident == 60
    assert rungs[-1].text_encoder == "resident"
    assert rungs[-1].max_pixels == CHOICES["ada-24gb"].max_pixels


def test_the_limits_that_were_asked_for_end_the_ladder():
    rungs = ladder(REAL, CHOICES["ada-24gb"].model_copy(update={"max_pixels": 300_000}), 2)
    assert max(rung.max_pixels for rung in rungs) == 300_000
    assert max(rung.sessions for rung in rungs) == 2


def test_a_streaming_policy_keeps_no_block():
    choice = CHOICES["ada-24gb"].model_copy(update={"residency": "streamed"})
    assert {rung.resident for rung in ladder(REAL, choice, 0)} == {0}
