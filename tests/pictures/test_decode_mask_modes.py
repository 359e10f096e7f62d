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
    mask, _ = decode_mask(data, PictureLimits(), mode)  # type: ignore[arg-type]
    return mask.getpixel((0, 0)), mask.getpixel((3, 0))


def test_the_two_meanings_of_one_file_are_opposites() -> None:
    erased = png(halves("RGBA", (200, 30, 30, 0), (200, 30, 30, 255)))
    assert ends(erased, "transparent") == (255, 0)
    assert ends(erased, "opaque") == (0, 255)
    assert ends(erased, "white") == (0, 81), "by its brightness"


def test_half_transparent_marks_half() -> None:
    assert ends(png(halves("LA", (0, 127), (0, 255))), "transparent") == (128, 0)


@pytest.mark.parametrize("image", [halves("L", 0, 255), halves("RGB", (0, 0, 0), (255, 255, 255))])
def test_a_mask_that_cannot_be_transparent_marks_nothing_in_that_mode(image: Image.Image) -> None:
    assert ends(png(image), "transparent") == (0, 0)
    assert ends(png(image), "white") == (0, 255)


CLEAR, INK = (0, 0, 0, 0), (200, 30, 30, 255)
PHOTO = Image.radial_gradient("L").resize((4, 2)).convert("RGB")
PHOTO.putpixel((0, 0), (200, 30, 30))
PHOTO.putpixel((1, 1), (20, 130, 30))


def with_hole(image: Image.Image) -> Image.Image:
    whole = image.convert("RGBA")
    whole.paste(CLEAR, (0, 0, 2, 2))
    return whole


@pytest.mark.parametrize(
    ("image", "marks", "guess"),
    [
        (halves("L", 255, 0), (255, 0), ""),
        (halves("RGBA", (255, 255, 255, 255), (0, 0, 0, 255)), (255, 0), ""),
        (halves("LA", (255, 255), (0, 255)), (255, 0), ""),
        (halves("RGBA", INK, CLEAR), (255, 0), "painted"),
        (halves("RGBA", (0, 0, 0, 255), CLEAR), (255, 0), "painted"),
        (halves("RGBA", (255, 255, 255, 255), (9, 9, 9, 0)), (255, 0), "painted"),
        (with_hole(PHOTO.transpose(Image.Transpose.FLIP_LEFT_RIGHT)), (255, 0), "hole"),
        (halves("RGB", (255, 255, 255), (255, 0, 0)), (255, 76), "colours"),
        (PHOTO, None, "colours"),
    ],
    ids=["grey", "opaque", "grey and opaque", "ink", "black ink", "white ink", "a hole", "red on white", "a photo"],
)
def test_a_mask_of_no_stated_convention_is_read_by_what_it_is_and_a_guess_is_told(
    image: Image.Image, marks: tuple[int, int] | None, guess: str
) -> None:
    assert marks is None or ends(png(image), "auto") == marks
    assert decode_mask(png(image), PictureLimits())[1] == guess


def test_who_says_the_convention_is_told_nothing() -> None:
    for mode in ("white", "transparent", "opaque"):
        for image in (PHOTO, halves("RGBA", INK, CLEAR)):
            assert decode_mask(png(image), PictureLimits(), mode)[1] == ""  # type: ignore[arg-type]


def test_greys_of_a_jpeg_are_no_colours() -> None:
    buffer = io.BytesIO()
    halves("L", 255, 0).resize((64, 64)).convert("RGB").save(buffer, "JPEG", quality=60)
    assert decode_mask(buffer.getvalue(), PictureLimits())[1] == ""
