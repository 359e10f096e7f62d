"""What of a mask is edited: its white part, or its transparent one."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from qied_client.picture_header.header import PictureLimits

from qied.pictures.decode import decode_mask


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def halves(mode: str, left: object, right: object) -> Image.Image:
    image = Image.new(mode, (4, 2), left)  # type: ignore[arg-type]
    image.paste(right, (2, 0, 4, 2))  # type: ignore[arg-type]
    return image


def ends(data: bytes, mode: str) -> tuple[object, object]:
    mask = decode_mask(data, PictureLimits(), mode)  # type: ignore[arg-type]
    return mask.getpixel((0, 0)), mask.getpixel((3, 0))


def test_the_two_meanings_of_one_file_are_opposites() -> None:
    erased = png(halves("RGBA", (200, 30, 30, 0), (200, 30, 30, 255)))
    assert ends(erased, "transparent") == (255, 0)
    assert ends(erased, "white") == (0, 255)


def test_half_transparent_marks_half() -> None:
    assert ends(png(halves("LA", (0, 127), (0, 255))), "transparent") == (128, 0)


@pytest.mark.parametrize("image", [halves("L", 0, 255), halves("RGB", (0, 0, 0), (255, 255, 255))])
def test_a_mask_that_cannot_be_transparent_marks_nothing_in_that_mode(image: Image.Image) -> None:
    assert ends(png(image), "transparent") == (0, 0)
    assert ends(png(image), "white") == (0, 255)
