from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from qied_client.errors import PictureError, PictureTooLarge, PictureUnreadable, UnsupportedPicture
from qied_client.inputs import picture_bytes
from qied_client.picture_header.header import PictureLimits

from qied.pictures.decode import PROFILE_IGNORED, decode, decode_mask

Rgb = tuple[int, int, int]
# What each orientation makes of a picture whose four corners, as displayed, are red, green, blue and white.
CORNERS: tuple[Rgb, ...] = ((220, 0, 0), (0, 220, 0), (0, 0, 220), (255, 255, 255))
STORED_AS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
}


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def plain(mode: str, colour: object, size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.new(mode, size, colour)  # type: ignore[arg-type]


def pixel(data: bytes, at: tuple[int, int] = (8, 8)) -> Rgb:
    image = decode(data, PictureLimits())
    assert image.mode == "RGB"
    return image.getpixel(at)  # type: ignore[return-value]


def near(seen: Rgb, expected: Rgb, tolerance: int) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(seen, expected, strict=True))


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def raw_png(depth: int, colour_type: int, rows: bytes, size: tuple[int, int], extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + pixels + chunk(b"IEND", b"")


def four_corners() -> NDArray[np.uint8]:
    """A displayed picture of 48 x 32 pixels, a colour in each corner."""
    picture = np.zeros((32, 48, 3), np.uint8)
    for index, colour in enumerate(CORNERS):
        picture[16 * (index // 2) :, 24 * (index % 2) :] = colour
    return picture


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("turn", STORED_AS)
def test_every_orientation_comes_out_upright(kind: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = Image.fromarray(np.ascontiguousarray(STORED_AS[turn](four_corners())))
    data = saved(stored, kind, exif=exif.tobytes(), quality=95)
    upright = decode(data, PictureLimits())
    assert upright.size == (48, 32)
    for corner, colour in zip([(6, 6), (42, 6), (6, 26), (42, 26)], CORNERS, strict=True):
        assert near(upright.getpixel(corner), colour, 12)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (plain("RGB", (10, 20, 30)), (10, 20, 30)),
        (plain("L", 77), (77, 77, 77)),
        (plain("1", 1), (255, 255, 255)),
        (plain("RGBA", (10, 20, 30, 255)), (10, 20, 30)),
        (plain("RGBA", (10, 20, 30, 0)), (255, 255, 255)),
        (plain("RGBA", (0, 0, 0, 127)), (128, 128, 128)),
        (plain("LA", (0, 0)), (255, 255, 255)),
        (plain("LA", (60, 255)), (60, 60, 60)),
    ],
    ids=["rgb", "gray", "one bit", "opaque", "transparent on white", "half on white", "gray on white", "opaque gray"],
)
def test_all_kinds_of_png_become_rgb_on_white(image: Image.Image, expected: Rgb) -> None:
    assert pixel(saved(image)) == expected


def test_a_palette_may_have_transparent_entries() -> None:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([200, 0, 0, 0, 200, 0])
    image.paste(0, (0, 0, 8, 16))
    assert pixel(saved(image), (2, 2)) == (200, 0, 0)
    assert pixel(saved(image, transparency=0), (2, 2)) == (255, 255, 255)
    assert pixel(saved(image, transparency=0), (12, 2)) == (0, 200, 0)
    assert pixel(saved(image, transparency=bytes([255, 0])), (12, 2)) == (255, 255, 255)


def test_a_colour_may_stand_for_transparency() -> None:
    assert pixel(saved(plain("RGB", (1, 2, 3)), transparency=(1, 2, 3))) == (255, 255, 255)
    assert pixel(saved(plain("L", 9), transparency=9)) == (255, 255, 255)
    assert pixel(saved(plain("L", 9), transparency=8)) == (9, 9, 9)


def test_16_bit_gray_is_scaled_not_clipped() -> None:
    levels = np.linspace(0, 65535, 256).round().astype(np.uint16)
    image = Image.fromarray(np.tile(levels, (4, 1)))
    assert image.mode == "I;16"
    row = np.asarray(decode(saved(image), PictureLimits()))[0, :, 0]
    assert (row == np.arange(256)).all()


def test_16_bit_gray_keeps_its_transparent_level() -> None:
    rows = b"\0" + struct.pack(">2H", 1000, 40_000)
    data = raw_png(16, 0, rows, (2, 1), chunk(b"tRNS", struct.pack(">H", 1000)))
    assert [pixel(data, (x, 0)) for x in (0, 1)] == [(255, 255, 255), (156, 156, 156)]


def test_16_bit_colour_keeps_its_high_byte_and_its_transparent_colour() -> None:
    rows = b"\0" + struct.pack(">6H", 0x1234, 0x8000, 0xFFFF, 0x4000, 0x4000, 0x4000)
    assert pixel(raw_png(16, 2, rows, (2, 1)), (0, 0)) == (0x12, 0x80, 0xFF)
    keyed = raw_png(16, 2, rows, (2, 1), chunk(b"tRNS", struct.pack(">3H", 0x1234, 0x8000, 0xFFFF)))
    assert [pixel(keyed, (x, 0)) for x in (0, 1)] == [(255, 255, 255), (64, 64, 64)]


def test_16_bit_gray_with_alpha_is_laid_over_white() -> None:
    rows = b"\0" + struct.pack(">4H", 0x8000, 0xFFFF, 0x8000, 0)
    data = raw_png(16, 4, rows, (2, 1))
    assert [pixel(data, (x, 0)) for x in (0, 1)] == [(128, 128, 128), (255, 255, 255)]


@pytest.mark.parametrize(
    ("ink", "expected"),
    [((0, 0, 0, 0), (255, 255, 255)), ((0, 255, 255, 0), (255, 0, 0)), ((0, 0, 0, 255), (0, 0, 0))],
    ids=["paper", "red", "black"],
)
def test_cmyk_jpeg_as_adobe_writes_it_is_not_inverted(ink: tuple[int, ...], expected: Rgb) -> None:
    data = saved(plain("CMYK", ink), "JPEG", quality=95)
    assert b"Adobe" in data
    assert near(pixel(data), expected, 3)


def test_ycck_jpeg_is_understood() -> None:
    """The first three channels of a CMYK file, declared to be luma and chroma of the ink by Adobe's transform flag."""
    ink = (0, 200, 100)
    luma = Image.new("RGB", (16, 16), ink).convert("YCbCr").getpixel((0, 0))
    stored = tuple(255 - level for level in luma)  # type: ignore[union-attr]
    data = bytearray(saved(plain("CMYK", (*stored, 0)), "JPEG", quality=98))
    data[data.index(b"Adobe") + 11] = 2
    assert near(pixel(bytes(data)), (255, 55, 155), 4)


def test_an_embedded_profile_decides_what_a_cmyk_jpeg_looks_like(odd_cmyk_profile: bytes) -> None:
    cyan = plain("CMYK", (255, 0, 0, 0))
    assert near(pixel(saved(cyan, "JPEG", quality=95)), (0, 255, 255), 3)
    assert near(pixel(saved(cyan, "JPEG", quality=95, icc_profile=odd_cmyk_profile)), (255, 255, 255), 6)
    magenta = plain("CMYK", (0, 255, 0, 0))
    assert near(pixel(saved(magenta, "JPEG", quality=95, icc_profile=odd_cmyk_profile)), (0, 0, 0), 6)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_embedded_rgb_profile_is_applied(kind: str, swapped_profile: bytes) -> None:
    data = saved(plain("RGB", (255, 0, 0)), kind, icc_profile=swapped_profile, quality=95)
    assert near(pixel(data), (0, 255, 0), 8)


def test_a_profile_applies_to_the_colour_below_transparency(swapped_profile: bytes) -> None:
    image = plain("RGBA", (255, 0, 0, 255))
    image.paste((255, 0, 0, 0), (0, 0, 8, 16))
    data = saved(image, icc_profile=swapped_profile)
    assert near(pixel(data, (12, 8)), (0, 255, 0), 4)
    assert pixel(data, (2, 8)) == (255, 255, 255)


def test_a_gray_profile_is_applied(linear_gray_profile: bytes) -> None:
    assert near(pixel(saved(plain("L", 55), icc_profile=linear_gray_profile)), (128, 128, 128), 2)
    assert near(pixel(saved(plain("LA", (55, 255)), icc_profile=linear_gray_profile)), (128, 128, 128), 2)


def test_a_broken_profile_is_ignored_and_flagged(swapped_profile: bytes) -> None:
    good = decode(saved(plain("RGB", (9, 8, 7)), icc_profile=swapped_profile), PictureLimits())
    bad = decode(saved(plain("RGB", (9, 8, 7)), icc_profile=b"no profile at all"), PictureLimits())
    assert good.info == {}
    assert bad.info == {PROFILE_IGNORED: True}
    assert bad.getpixel((0, 0)) == (9, 8, 7)


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [plain("RGB", colour) for colour in ("red", "blue")]
    for kind in ("PNG", "WEBP"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        assert pixel(data) == (255, 0, 0)


def test_a_jpeg_with_several_pictures_counts_as_its_first() -> None:
    frames = [plain("RGB", colour) for colour in ("red", "blue")]
    data = saved(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=95)
    assert near(pixel(data), (254, 0, 0), 3)


def test_it_decodes_from_a_path(tmp_path: Path, limits: PictureLimits) -> None:
    path = tmp_path / "a picture.png"
    path.write_bytes(saved(plain("RGB", (1, 2, 3))))
    image = decode(path, limits)
    path.unlink()
    assert image.getpixel((3, 3)) == (1, 2, 3)


def test_a_bomb_is_refused_by_its_header(limits: PictureLimits) -> None:
    rows = zlib.compress(bytes(30_000 // 8 + 1) * 30_000, 9)
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert len(data) < 200_000
    with pytest.raises(PictureTooLarge, match="30000 x 30000"):
        decode(data, limits)


def test_pillow_refuses_what_generous_limits_let_through() -> None:
    generous = PictureLimits(max_pixels=10**10, max_side=10**5)
    with pytest.raises(PictureTooLarge, match="bomb"):
        decode(raw_png(1, 0, b"", (30_000, 30_000)), generous)


def test_a_second_larger_size_in_the_same_file_is_not_followed(limits: PictureLimits) -> None:
    second = chunk(b"IHDR", struct.pack(">IIBBBBB", 400, 400, 8, 0, 0, 0, 0))
    data = raw_png(8, 0, bytes(401 * 400), (1, 1), second)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.getpixel((399, 399)) == 0
    with pytest.raises(PictureUnreadable):
        decode(data, limits)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_file_is_unreadable_at_every_length(kind: str, limits: PictureLimits) -> None:
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    data = saved(noise, kind)
    for part in range(1, 10):
        with pytest.raises(PictureUnreadable):
            decode(data[: len(data) * part // 10], limits)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM"])
def test_no_other_decoder_runs(kind: str, limits: PictureLimits) -> None:
    with pytest.raises(UnsupportedPicture):
        decode(saved(plain("RGB", "red"), kind), limits)


DAMAGED = {
    "png": saved(Image.effect_noise((24, 24), 60).convert("RGB")),
    "palette": saved(Image.effect_noise((24, 24), 60).convert("RGB").quantize(16), transparency=3),
    "jpeg": saved(Image.effect_noise((24, 24), 60).convert("RGB"), "JPEG"),
    "cmyk": saved(Image.effect_noise((24, 24), 60).convert("CMYK"), "JPEG"),
    "webp": saved(Image.effect_noise((24, 24), 60).convert("RGB"), "WEBP"),
    "webp with alpha": saved(Image.effect_noise((24, 24), 60).convert("RGBA"), "WEBP", lossless=True, icc_profile=b"?"),
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(DAMAGED)),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=6),
    st.booleans(),
)
def test_damaged_files_give_a_picture_or_a_picture_error(
    name: str, changes: list[tuple[int, int]], as_mask: bool
) -> None:
    data = bytearray(DAMAGED[name])
    for offset, value in changes:
        data[offset % len(data)] = value
    try:
        limits = PictureLimits(max_pixels=1_000_000)
        image = decode_mask(bytes(data), limits)[0] if as_mask else decode(bytes(data), limits)
    except PictureError as error:
        assert error.remedy
    else:
        assert image.mode == ("L" if as_mask else "RGB")


def mask_pixels(image: Image.Image, kind: str = "PNG", **options: object) -> list[int]:
    mask, _ = decode_mask(saved(image, kind, **options), PictureLimits())
    assert (mask.mode, mask.info) == ("L", {})
    return [int(mask.getpixel(at)) for at in ((4, 8), (12, 8))]  # type: ignore[arg-type]


def half(mode: str, left: object, right: object) -> Image.Image:
    image = plain(mode, right)
    image.paste(left, (0, 0, 8, 16))  # type: ignore[arg-type]
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (half("L", 255, 0), [255, 0]),
        (half("L", 128, 64), [128, 64]),
        (half("1", 1, 0), [255, 0]),
        (half("RGB", (255, 255, 255), (0, 0, 0)), [255, 0]),
        (half("LA", (255, 255), (0, 255)), [255, 0]),
        (half("RGBA", (0, 0, 0, 255), (0, 0, 0, 0)), [255, 0]),
        (half("RGBA", (200, 30, 30, 128), (255, 255, 255, 0)), [128, 0]),
        (half("RGBA", (255, 255, 255, 255), (0, 0, 0, 0)), [255, 0]),
        (half("RGBA", (255, 255, 255, 255), (0, 0, 0, 255)), [255, 0]),
        (plain("RGBA", (0, 0, 0, 255)), [0, 0]),
        (plain("RGBA", (0, 0, 0, 0)), [0, 0]),
    ],
    ids=[
        "gray",
        "soft",
        "one bit",
        "rgb",
        "opaque gray and alpha",
        "black paint on nothing",
        "soft red paint on nothing",
        "white paint on nothing",
        "opaque rgba",
        "all black and opaque",
        "all transparent",
    ],
)
def test_white_or_painted_is_edited(image: Image.Image, expected: list[int]) -> None:
    assert mask_pixels(image) == expected


def test_paint_of_two_colours_counts_by_its_brightness() -> None:
    image = half("RGBA", (255, 255, 255, 255), (0, 0, 0, 255))
    image.paste((255, 255, 255, 0), (10, 0, 16, 16))
    assert mask_pixels(image) == [255, 0]


def test_a_mask_is_turned_upright_and_scaled_from_16_bits() -> None:
    exif = Image.Exif()
    exif[0x0112] = 2
    assert mask_pixels(half("L", 255, 0), exif=exif.tobytes()) == [0, 255]
    levels = np.zeros((16, 16), np.uint16)
    levels[:, :8] = 65535
    assert mask_pixels(Image.fromarray(levels)) == [255, 0]


def test_a_cmyk_jpeg_may_be_a_mask() -> None:
    assert mask_pixels(half("CMYK", (0, 0, 0, 0), (0, 0, 0, 255)), "JPEG", quality=98) == pytest.approx([255, 0], abs=3)


@pytest.mark.parametrize("profiled", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_pillow_image_from_a_client_is_the_picture_that_its_file_is(
    mode: str, profiled: bool, odd_cmyk_profile: bytes, p3_profile: bytes
) -> None:
    profile = (odd_cmyk_profile if mode == "CMYK" else p3_profile) if profiled else None
    data = saved(Image.effect_noise((24, 24), 60).convert(mode), "JPEG", quality=95, icc_profile=profile)
    sent = picture_bytes(Image.open(io.BytesIO(data)))
    assert decode(sent, PictureLimits()).tobytes() == decode(data, PictureLimits()).tobytes()
