"""Thumbnails that the client makes: small, upright, on white, with the picture's own levels."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image
from qied_client.errors import PictureUnreadable
from qied_client.thumbnail import thumbnail_of


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def small(picture: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(thumbnail_of(picture)))
    assert (image.format, image.mode) == ("JPEG", "RGB")
    return image


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_longer_side_has_at_most_256_pixels(kind: str) -> None:
    assert small(encoded(Image.new("RGB", (600, 300)), kind)).size == (256, 128)
    assert small(encoded(Image.new("RGB", (40, 30)), kind)).size == (40, 30)


def test_it_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert small(encoded(Image.new("RGB", (600, 300)), "JPEG", exif=exif)).size == (128, 256)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_what_is_transparent_is_white(mode: str) -> None:
    assert small(encoded(Image.new(mode, (64, 64)))).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(("mode", "level"), [("L", 128), ("I;16", 128 << 8), ("1", 1), ("P", 200)])
def test_gray_keeps_its_levels(mode: str, level: int) -> None:
    image = Image.new(mode, (64, 64), level)
    expected = {"1": 255, "P": image.convert("L").getpixel((0, 0))}.get(mode, 128)
    assert small(encoded(image)).convert("L").getpixel((0, 0)) == expected


@pytest.mark.parametrize("cut", [40, 200])
def test_a_truncated_picture_is_said_so(cut: int) -> None:
    picture = encoded(Image.effect_noise((64, 64), 50))
    with pytest.raises(PictureUnreadable, match="cannot be decoded"):
        thumbnail_of(picture[:cut])
