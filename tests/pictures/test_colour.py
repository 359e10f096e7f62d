from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms
from qied_client.pixels.colour import to_srgb

P3_TO_SRGB = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def colours(seed: int, low: int, high: int) -> Image.Image:
    levels = np.random.default_rng(seed).integers(low, high, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(levels)


def test_without_a_profile_the_pixels_are_kept() -> None:
    image = colours(1, 0, 256)
    result, respected = to_srgb(image, None)
    assert respected
    assert result.tobytes() == image.tobytes()


def test_a_profile_that_is_srgb_in_effect_keeps_every_pixel(nearly_srgb_profile: bytes) -> None:
    image = colours(2, 0, 256)
    result, respected = to_srgb(image, nearly_srgb_profile)
    assert respected
    assert result.tobytes() == image.tobytes()


def test_display_p3_comes_out_as_its_matrix_says(p3_profile: bytes) -> None:
    image = colours(3, 100, 156)
    result, respected = to_srgb(image, p3_profile)
    linear = (np.asarray(image) / 255) ** 2.2 @ P3_TO_SRGB.T
    expected = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clip(0) ** (1 / 2.4) - 0.055) * 255
    assert respected
    assert np.abs(np.asarray(result) - expected).max() <= 2
    assert np.abs(np.asarray(result, dtype=int) - np.asarray(image)).max() >= 5


def test_of_the_tables_of_a_profile_that_for_relative_colorimetric_is_used(scanner_profile: bytes) -> None:
    picture = Image.fromarray(np.array([[(255, 255, 255), (0, 0, 0), (255, 0, 0)]], dtype=np.uint8))
    result, respected = to_srgb(picture, scanner_profile)
    assert respected
    white, black, red = np.asarray(result, dtype=int)[0]
    assert white.min() >= 254, "the paper is white"
    assert black.max() <= 1, "the darkest colour of the scanner is black"
    # The table's 128, darkened as the black is; 27 and 197 are what the other tables say.
    assert np.abs(red - 124).max() <= 1


def test_a_gray_profile_reads_the_gray_of_a_colour_picture(linear_gray_profile: bytes) -> None:
    result, respected = to_srgb(Image.new("RGB", (4, 4), (55, 55, 55)), linear_gray_profile)
    assert respected
    assert result.getpixel((0, 0)) == pytest.approx((128, 128, 128), abs=2)


def test_a_colour_profile_may_come_with_a_gray_picture(swapped_profile: bytes) -> None:
    result, respected = to_srgb(Image.new("L", (4, 4), 90), swapped_profile)
    assert (result.mode, respected) == ("RGB", True)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("profile", [b"x", b"\0" * 200, srgb_profile()[:300]], ids=["junk", "zeros", "truncated"])
def test_a_broken_profile_counts_as_none(mode: str, profile: bytes) -> None:
    image = Image.new(mode, (4, 4))
    result, respected = to_srgb(image, profile)
    assert not respected
    assert result.tobytes() == image.convert("RGB").tobytes()


def test_a_profile_of_another_kind_of_colour_counts_as_none(odd_cmyk_profile: bytes) -> None:
    assert to_srgb(Image.new("RGB", (4, 4)), odd_cmyk_profile)[1] is False
    assert to_srgb(Image.new("CMYK", (4, 4)), srgb_profile())[1] is False
    lab = io.BytesIO(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()).getvalue()
    assert to_srgb(Image.new("RGB", (4, 4)), lab)[1] is False
