from __future__ import annotations

import io
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from qied_client.picture_header.header import PictureLimits
from qied_client.picture_metadata import PictureMetadata
from qied_client.protocol import limits

from qied.edit import OutputFormat
from qied.pictures.decode import decode
from qied.pictures.encode import PREVIEW_MAX_BYTES, THUMBNAIL_MAX_BYTES, encode, encode_preview, encode_thumbnail

FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
LOSSLESS: tuple[OutputFormat, ...] = ("png", "webp")
METADATA = PictureMetadata("make the heart blue", " ", 7, 20, 4.0, 64, 48, "builtin", "0.1.0")


def noise(width: int, height: int) -> Image.Image:
    levels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(levels)


@pytest.mark.parametrize("kind", LOSSLESS)
@settings(max_examples=40, deadline=None)
@given(levels=arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))))
def test_what_is_encoded_decodes_to_the_same_pixels(kind: OutputFormat, levels: np.ndarray) -> None:
    data = encode(Image.fromarray(levels), kind, METADATA)
    assert (np.asarray(decode(data, PictureLimits())) == levels).all()


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_less_quality_gives_fewer_bytes_and_nearly_the_same_picture(kind: OutputFormat) -> None:
    smooth = Image.linear_gradient("L").resize((96, 64)).convert("RGB")
    fine, coarse = (encode(smooth, kind, METADATA, quality) for quality in (95, 30))
    assert len(coarse) < len(fine)
    difference = np.asarray(decode(fine, PictureLimits()), int) - np.asarray(smooth, int)
    assert abs(difference).max() <= 8


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_picture_and_metadata_give_the_same_bytes(kind: OutputFormat) -> None:
    first, second = noise(64, 48), noise(64, 48)
    second.info["icc_profile"] = b"left over from a source"
    second.info["exif"] = b"left over from a source"
    assert encode(first, kind, METADATA) == encode(second, kind, METADATA)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_format_is_the_one_asked_for(kind: OutputFormat) -> None:
    with Image.open(io.BytesIO(encode(noise(8, 8), kind, METADATA))) as image:
        assert image.format == kind.upper()


def test_a_png_says_that_its_colours_are_srgb() -> None:
    with Image.open(io.BytesIO(encode(noise(8, 8), "png", METADATA))) as image:
        assert image.info["srgb"] == 0


def test_a_gray_picture_is_written_as_rgb() -> None:
    data = encode(Image.new("L", (8, 8), 90), "png", METADATA)
    assert decode(data, PictureLimits()).getpixel((0, 0)) == (90, 90, 90)


@pytest.mark.parametrize("size", [(1, 1), (256, 256), (511, 2000), (2048, 2048), (9000, 3)])
def test_a_preview_is_small_in_bytes_and_sides(size: tuple[int, int]) -> None:
    data = encode_preview(noise(*size))
    assert len(data) <= PREVIEW_MAX_BYTES
    preview = decode(data, PictureLimits())
    assert max(preview.size) <= 512
    assert preview.width / preview.height == pytest.approx(size[0] / size[1], rel=0.05) or min(preview.size) == 1


def test_a_preview_of_a_small_picture_keeps_its_size_and_look() -> None:
    image = Image.new("RGB", (256, 256), (40, 80, 220))
    preview = decode(encode_preview(image), PictureLimits())
    assert preview.size == (256, 256)
    assert preview.getpixel((100, 100)) == pytest.approx((40, 80, 220), abs=3)


@pytest.mark.parametrize("size", [(1, 1), (256, 256), (100, 300), (2048, 2048), (9000, 3)])
def test_a_thumbnail_is_a_small_jpeg_that_is_never_enlarged(size: tuple[int, int]) -> None:
    data = encode_thumbnail(noise(*size))
    assert len(data) <= THUMBNAIL_MAX_BYTES < limits.THUMBNAIL_BYTES
    with Image.open(io.BytesIO(data)) as thumbnail:
        assert thumbnail.format == "JPEG"
        assert max(thumbnail.size) <= min(256, max(size))


def test_a_thumbnail_of_a_picture_has_256_pixels_and_its_colours() -> None:
    image = Image.new("RGB", (1024, 512), (40, 80, 220))
    image.info["icc_profile"] = b"left over from a source"
    thumbnail = decode(encode_thumbnail(image), PictureLimits())
    assert thumbnail.size == (256, 128)
    assert thumbnail.getpixel((100, 100)) == pytest.approx((40, 80, 220), abs=3)
    assert thumbnail.info == {}
