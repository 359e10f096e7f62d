"""What a client converts keeps the metadata as the daemon itself writes it into that format."""

from __future__ import annotations

import io
from typing import Literal

import pytest
from PIL import ExifTags, Image
from qied_client.errors import InvalidRequest
from qied_client.picture_header.header import PictureLimits
from qied_client.picture_metadata import PictureMetadata, read_metadata
from qied_client.pixels.converted import converted

from qied.pictures.decode import decode
from qied.pictures.encode import encode

METADATA = PictureMetadata(
    "Make it night: 夜 🌙", "blurry", 7, 4, 1.0, 32, 16, "small", "0.2.0", loras=(("style", 0.5),)
)
PICTURE = Image.effect_noise((32, 16), 60).convert("RGB")


def info(data: bytes) -> dict[object, object]:
    """All that Pillow reads beside the pixels."""
    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
        return dict(opened.info)


@pytest.mark.parametrize(("source", "target"), [("png", "webp"), ("webp", "png")])
def test_another_lossless_format_is_what_the_daemon_would_have_sent(
    source: Literal["png", "webp"], target: Literal["png", "webp"]
) -> None:
    data = converted(encode(PICTURE, source, METADATA), "PNG" if target == "png" else "WEBP")
    expected = encode(PICTURE, target, METADATA)
    assert read_metadata(data) == METADATA
    assert info(data) == info(expected)
    assert Image.open(io.BytesIO(data)).convert("RGB").tobytes() == PICTURE.tobytes()


@pytest.mark.parametrize("source", ["png", "webp"])
def test_a_jpeg_has_the_exif_of_a_webp(source: Literal["png", "webp"]) -> None:
    exif = Image.open(io.BytesIO(converted(encode(PICTURE, source, METADATA), "JPEG"))).getexif()
    expected = Image.open(io.BytesIO(encode(PICTURE, "webp", METADATA))).getexif()
    assert exif[ExifTags.Base.ImageDescription] == expected[ExifTags.Base.ImageDescription]
    assert exif.get_ifd(ExifTags.IFD.Exif) == expected.get_ifd(ExifTags.IFD.Exif)


def test_metadata_that_exif_cannot_hold_is_refused_and_not_dropped() -> None:
    long = PictureMetadata("\x01" * 8000, "\x01" * 3000, 7, 4, 4.0, 32, 16, "small", "0.2.0")
    with pytest.raises(InvalidRequest, match="JPEG"):
        converted(encode(PICTURE, "png", long), "JPEG")


def uploaded(**settings: object) -> bytes:
    """A JPEG as a camera or an editor writes it: the upper half red, the lower one blue."""
    picture = Image.new("RGB", (32, 16), "red")
    picture.paste((0, 0, 255), (0, 8, 32, 16))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=100, subsampling=0, **settings)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_an_uploaded_picture_is_converted_as_the_daemon_decodes_it(orientation: int, swapped_profile: bytes) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = uploaded(exif=exif, icc_profile=swapped_profile)
    again = Image.open(io.BytesIO(converted(data, "PNG")))
    expected = decode(data, PictureLimits())
    assert (again.size, again.mode) == (expected.size, "RGB")
    assert again.tobytes() == expected.tobytes()


def test_transparency_is_kept_where_the_format_has_it() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(buffer, "PNG")
    assert Image.open(io.BytesIO(converted(buffer.getvalue(), "WEBP"))).getpixel((0, 0))[3] == 0  # type: ignore[index]
    assert Image.open(io.BytesIO(converted(buffer.getvalue(), "JPEG"))).getpixel((0, 0)) == (255, 255, 255)
