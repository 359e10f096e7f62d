import pytest
from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import calculate_dimensions
from hypothesis import given, settings
from hypothesis import strategies as st

from qied.planning.edits.geometry import (
    MAX_ASPECT,
    default_target_size,
    fitted_size,
    reference_size,
    vision_size,
    within_aspect,
)
from qied.planning.profiles.model_profile import shipped_profiles

sides = st.integers(64, 6000)


@settings(deadline=None)
@given(st.sampled_from([112 * 112, 256 * 256, 384 * 384, 1024 * 1024]), sides, sides)
def test_fitted_sizes_are_those_of_diffusers(area: int, width: int, height: int) -> None:
    expected = calculate_dimensions(area, width / height)
    assert fitted_size(area, width, height, 32) == tuple(max(32, side) for side in expected)


@settings(deadline=None)
@given(sides, sides)
def test_fitted_sizes_are_whole_multiples_and_never_vanish(width: int, height: int) -> None:
    fitted = fitted_size(1024, width, height, 32)
    assert all(side >= 32 and side % 32 == 0 for side in fitted)


@pytest.mark.parametrize(
    ("model", "size", "expected"),
    [
        ("builtin", (256, 256), (256, 256)),
        ("builtin", (640, 480), (288, 224)),
        ("qwen-image-edit-2511", (4000, 3000), (1184, 896)),
        ("qwen-image-edit-2511", (512, 512), (1024, 1024)),
    ],
)
def test_the_default_target_is_the_resized_reference(
    model: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    profile = shipped_profiles()[model]
    assert default_target_size(profile, *size) == reference_size(profile, *size) == expected


def test_the_default_target_stays_below_the_largest_target() -> None:
    profile = shipped_profiles()["builtin"]
    geometry = profile.geometry.model_copy(update={"max_target_pixels": 128 * 128})
    small = profile.model_copy(update={"geometry": geometry})
    assert default_target_size(small, 900, 900) == (128, 128)


def test_the_vision_size_is_the_smaller_one() -> None:
    assert vision_size(shipped_profiles()["qwen-image-edit-2511"], 1000, 1000) == (384, 384)


@given(sides)
def test_pictures_as_long_as_the_limit_are_within_it_and_longer_ones_are_not(short: int) -> None:
    assert within_aspect(short, MAX_ASPECT * short)
    assert not within_aspect(MAX_ASPECT * short + 1, short)
