"""Operations of upscaling, by formula and as torch counts them; what they make of an edit's expected time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qied.edit import EditSpec
from qied.engine.selftest.upscalers import counted_operations
from qied.engine.upscale.networks import network_of
from qied.planning.edits.upscaling import UpscalerFacts, upscale_operations
from qied.planning.requests.pace import Pace
from tests.engine.upscale.test_live_bytes import LARGE
from tests.planning.test_quote import SERVING

ESRGAN = UpscalerFacts("rrdb", 4, 64, 32, 23, 1, 16_697_987)
SPEC = EditSpec(("a" * 64,), "go", None, 7, 4, 1.0, 1024, 1024)


@pytest.mark.parametrize("facts", LARGE.values(), ids=LARGE)
def test_the_formula_counts_what_torch_counts(facts: UpscalerFacts) -> None:
    counted = counted_operations(network_of(facts).eval().to_empty(device="cpu"))
    # One tile, which has no margins.
    assert counted * 128**2 == pytest.approx(upscale_operations(facts, (128, 128), 512), rel=0.001)


def test_margins_of_tiles_are_work_as_well() -> None:
    whole = upscale_operations(ESRGAN, (1024, 512), 2048)
    assert upscale_operations(ESRGAN, (1024, 512), 512) == pytest.approx(whole * (512 + 2 * 32 + 512) / 1024)
    other = UpscalerFacts("SwinIR", 4, 0, 0, 0, 1, 5, pixel_operations=1000)
    assert upscale_operations(other, (10, 20), 512) == 200_000


def test_an_edit_is_expected_to_take_as_long_as_its_upscaling_more_once_that_was_measured() -> None:
    pace = Pace(replace(SERVING, upscalers={"large": ESRGAN}))
    enlarged = replace(SPEC, upscale="large", upscale_by=4)
    plain = pace.edit_ms(SPEC)
    assert pace.edit_ms(enlarged) > plain
    pace.learn_upscaling(enlarged, 900.0)
    assert pace.edit_ms(enlarged) - plain == pytest.approx(900, abs=1)
    pace.learn_upscaling(enlarged, 1900.0)
    assert 900 < pace.edit_ms(enlarged) - plain < 1900
    alone = replace(enlarged, only_upscales=True)
    assert pace.edit_ms(alone) == pytest.approx(pace.edit_ms(enlarged) - plain, abs=1)
    pace.learn_upscaling(SPEC, 5.0)
    assert pace.edit_ms(SPEC) == plain
