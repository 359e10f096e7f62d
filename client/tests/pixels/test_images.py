"""Pillow images of every mode, as PNG."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from qied_client.errors import InvalidRequest
from qied_client.pixels.images import image_as_png


def again(image: Image.Image) -> Image.Image:
    """The image as the PNG file that it becomes."""
    opened = Image.open(io.BytesIO(image_as_png(image)))
    opened.load()
    return opened


def noise(mode: str) -> Image.Image:
    return Image.effect_noise((9, 7), 40).convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_mode_that_png_has_is_kept(mode: str) -> None:
    image = noise(mode)
    assert again(image).mode == mode
    assert np.array_equal(np.asarray(again(image)), np.asarray(image))


@pytest.mark.parametrize(("mode", "becomes"), [("YCbCr", "RGB"), ("HSV", "RGB"), ("RGBX", "RGB"), ("RGBa", "RGBA")])
def test_other_modes_become_the_nearest(mode: str, becomes: str) -> None:
    image = noise("RGBA" if mode == "RGBa" else "RGB").convert(mode)
    assert np.array_equal(np.asarray(again(image)), np.asarray(image.convert(becomes)))


def test_cmyk_becomes_rgb() -> None:
    image = noise("RGB").convert("CMYK")
    assert np.array_equal(np.asarray(again(image)), np.asarray(image.convert("RGB")))


def test_a_profile_that_was_used_or_cannot_be_used_does_not_stay() -> None:
    image = noise("RGB").convert("CMYK")
    image.info["icc_profile"] = b"junk"
    assert np.array_equal(np.asarray(again(image)), np.asarray(image.convert("RGB")))
    assert "icc_profile" not in again(image).info


def test_a_profile_travels_with_the_image() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = noise("RGB")
    image.info["icc_profile"] = profile
    assert again(image).info["icc_profile"] == profile


def test_floats_count_to_255_as_pillow_counts_them() -> None:
    image = noise("L")
    assert np.array_equal(np.asarray(again(image.convert("F"))), np.asarray(image))
    for low, high in ((0.0, 1.0), (0.0, 300.0), (-2.0, 5.0), (0.0, float("nan"))):
        wrong = Image.fromarray(np.array([[low, high]], np.float32))
        with pytest.raises(InvalidRequest, match=f"from .*{low:g}|from nan"):
            image_as_png(wrong)


def test_integers_count_to_65535_as_pillow_saves_them() -> None:
    image = Image.fromarray(np.array([[0, 257, 65535]], np.int32))
    assert np.asarray(again(image)).tolist() == [[0, 1, 255]]
    for low, high in ((0, 255), (0, 65536), (-1, 400)):
        with pytest.raises(InvalidRequest, match=str(high)):
            image_as_png(Image.fromarray(np.array([[low, high]], np.int32)))


def test_16_bits_of_another_byte_order_are_the_same_picture() -> None:
    levels = np.array([[0, 257, 65535]], ">u2")
    image = Image.frombytes("I;16B", (3, 1), levels.tobytes())
    assert np.asarray(again(image)).tolist() == [[0, 1, 255]]


@pytest.mark.parametrize("mode", ["LAB"])
def test_a_mode_without_an_equivalent_is_refused_by_name(mode: str) -> None:
    with pytest.raises(InvalidRequest, match=mode):
        image_as_png(Image.new(mode, (4, 4)))


def test_an_image_without_pixels_or_that_is_truncated_is_refused(picture: bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no pixels"):
        image_as_png(Image.new("RGB", (0, 4)))
    with pytest.raises(InvalidRequest, match="cannot be written"):
        image_as_png(Image.open(io.BytesIO(picture[:-60])))


def test_an_image_needs_no_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise("RGB")
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert image_as_png(image).startswith(b"\x89PNG")
