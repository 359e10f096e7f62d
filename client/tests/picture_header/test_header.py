from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from qied_client.errors import (
    PictureError,
    PictureTooCostly,
    PictureTooLarge,
    PictureUnreadable,
    UnsupportedPicture,
)
from qied_client.picture_header.bounded_reader import MAX_PIECE, MAX_TOTAL
from qied_client.picture_header.header import PictureHeader, PictureLimits, read_header
from qied_client.picture_header.scanners import MAX_JPEG_SCANS, MAX_PARTS


class CountingFile(io.BytesIO):
    """Remembers how much was read, in all and at once, and how often."""

    total = 0
    largest = 0
    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None and size >= 0, "unbounded read"
        piece = super().read(size)
        self.total += len(piece)
        self.reads += 1
        self.largest = max(self.largest, size)
        return piece


def saved(kind: str, size: tuple[int, int] = (40, 24), mode: str = "RGB", **options: object) -> bytes:
    target = io.BytesIO()
    Image.new(mode, size).save(target, kind, **options)
    return target.getvalue()


def exif(turn: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = turn
    return block.tobytes()


def header_of(data: bytes, limits: PictureLimits | None = None) -> PictureHeader:
    return read_header(io.BytesIO(data), limits or PictureLimits())


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of_size(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


REAL_FILES = {
    "png": saved("PNG"),
    "png with exif": saved("PNG", exif=exif(6)),
    "jpeg": saved("JPEG"),
    "progressive jpeg": saved("JPEG", progressive=True),
    "gray jpeg": saved("JPEG", mode="L"),
    "cmyk jpeg": saved("JPEG", mode="CMYK"),
    "jpeg with exif": saved("JPEG", exif=exif(6), comment=b"a comment"),
    "lossy webp": saved("WEBP"),
    "lossless webp": saved("WEBP", lossless=True),
    "webp with alpha": saved("WEBP", mode="RGBA"),
    "lossless webp with alpha": saved("WEBP", mode="RGBA", lossless=True),
    "png with alpha": saved("PNG", mode="RGBA"),
    "gray png with alpha": saved("PNG", mode="LA"),
    "palette png with alpha": saved("PNG", mode="P", transparency=0),
    "webp with exif": saved("WEBP", exif=exif(6)),
}


@pytest.mark.parametrize("name", REAL_FILES)
def test_format_size_and_orientation_of_real_files_are_read(name: str) -> None:
    kind = next(kind for kind in ("png", "jpeg", "webp") if kind in name)
    turn = 6 if "exif" in name else 1
    header = header_of(REAL_FILES[name])
    assert header == PictureHeader(kind, 40, 24, turn, "alpha" in name)  # type: ignore[arg-type]
    assert header.displayed_size == ((24, 40) if turn == 6 else (40, 24))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_that_lie_on_their_side_swap_width_and_height(kind: str, turn: int) -> None:
    header = header_of(saved(kind, exif=exif(turn)))
    assert header.orientation == turn
    assert header.displayed_size == ((24, 40) if turn >= 5 else (40, 24))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_as_large_as_its_canvas(kind: str) -> None:
    frames = [Image.new("RGB", (40, 24), colour) for colour in ("red", "blue")]
    target = io.BytesIO()
    frames[0].save(target, kind, save_all=True, append_images=frames[1:])
    assert header_of(target.getvalue()).displayed_size == (40, 24)


def test_a_png_may_name_its_orientation_behind_the_pixels() -> None:
    whole = saved("PNG")
    end = whole.index(b"IEND") - 4
    assert header_of(whole[:end] + chunk(b"eXIf", exif(3)[6:]) + whole[end:]).orientation == 3


def test_chunks_of_a_webp_are_padded_to_even_lengths() -> None:
    block = exif(8)
    chunks = b"VP8X\x0a\0\0\0" + bytes(4) + b"\x27\0\0\x17\0\0" + b"ABCD\x01\0\0\0x\0EXIF"
    data = b"RIFF\0\0\0\0WEBP" + chunks + struct.pack("<I", len(block)) + block
    assert header_of(data) == PictureHeader("webp", 40, 24, 8)


def test_a_jpeg_may_have_fill_bytes_and_a_large_profile_before_its_size() -> None:
    data = saved("JPEG", icc_profile=bytes(200_000))
    assert header_of(data[:2] + b"\xff" * 50 + data[2:]).displayed_size == (40, 24)


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (b"", "is empty"),
        (b"These are notes, not a picture.\n", "a text file"),
        ("Grüße, 世界".encode(), "a text file"),
        (saved("GIF"), "a GIF picture"),
        (saved("BMP"), "a BMP picture"),
        (saved("TIFF"), "a TIFF picture"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG or other XML document"),
        (b'<?xml version="1.0"?><svg/>', "an SVG or other XML document"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a video"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
        (b"\x00\x01\x02\x03\x80\xff\x00\x00", "begins with 00 01 02 03"),
    ],
)
def test_other_files_are_refused_by_what_they_are(data: bytes, seen: str) -> None:
    with pytest.raises(UnsupportedPicture, match=seen) as caught:
        header_of(data)
    assert "not a PNG, JPEG, WebP, HEIC, AVIF or JPEG XL picture" in caught.value.message
    assert caught.value.remedy


def test_lossless_and_12_bit_jpeg_are_refused_by_name() -> None:
    data = bytearray(saved("JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 1] = 0xC3
    with pytest.raises(UnsupportedPicture, match="lossless"):
        header_of(bytes(data))
    data[start + 1], data[start + 4] = 0xC1, 12
    with pytest.raises(UnsupportedPicture, match="12 bits"):
        header_of(bytes(data))


@pytest.mark.parametrize(
    ("size", "limit"),
    [((0, 0), "it is empty"), ((30_000, 30_000), "16384 pixels a side"), ((16_000, 16_000), "64,000,000")],
)
def test_a_size_outside_the_limits_is_named_with_the_limit(size: tuple[int, int], limit: str) -> None:
    with pytest.raises(PictureTooLarge, match=limit) as caught:
        header_of(png_of_size(*size))
    assert f"{size[0]} x {size[1]}" in caught.value.message
    assert caught.value.details["width"] == size[0]
    assert caught.value.remedy


def test_a_picture_right_at_the_limits_is_taken() -> None:
    data = saved("PNG")
    exact = PictureLimits(max_pixels=40 * 24, max_side=40, max_bytes=len(data))
    assert header_of(data, exact).displayed_size == (40, 24)
    with pytest.raises(PictureTooLarge, match="bytes"):
        header_of(data + b"\0", exact)


@pytest.mark.parametrize("name", REAL_FILES)
def test_a_header_that_is_cut_off_is_never_taken_for_something_else(name: str) -> None:
    data = REAL_FILES[name]
    whole = header_of(data)
    for length in range(12, len(data)):
        try:
            cut = header_of(data[:length])
        except PictureUnreadable:
            continue
        assert (cut.width, cut.height) == (whole.width, whole.height)


def test_a_first_chunk_that_is_not_the_size_is_unreadable() -> None:
    with pytest.raises(PictureUnreadable, match="IHDR"):
        header_of(b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", bytes(13)))
    with pytest.raises(PictureUnreadable, match="begin with a picture"):
        header_of(b"RIFF\x20\0\0\0WEBPALPH" + bytes(40))


@pytest.mark.parametrize(
    "data",
    [
        png_of_size(9, 9) + chunk(b"tEXt", b"") * 100_000,
        png_of_size(9, 9) + chunk(b"eXIf", bytes(10_000_000)),
        b"\xff\xd8" + b"\xff\xfe\0\x02" * 1_000_000,
        b"\xff\xd8" + b"\xff" * 5_000_000,
        b"\xff\xd8\xff" + b"\x01\xff" * 2_000_000,
        b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(10) + b"ABCD\0\0\0\0" * 500_000,
    ],
    ids=["empty chunks", "huge exif", "empty segments", "fill bytes", "bare markers", "empty riff chunks"],
)
def test_files_made_to_be_read_for_ever_are_not(data: bytes) -> None:
    file = CountingFile(data)
    with contextlib.suppress(PictureError):
        read_header(file, PictureLimits())
    assert file.reads < 60_000
    assert file.total <= MAX_TOTAL
    assert file.largest <= MAX_PIECE


def with_scans(count: int, between: bytes = b"", pixels: bytes = b"\x00\xff\x00\xff\xd0") -> bytes:
    """A JPEG of so many scans, of which only the headers are real, each with ``between`` before it."""
    start = saved("JPEG", progressive=True)
    start = start[: start.index(b"\xff\xda")]
    return start + (between + b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x10" + pixels) * count + b"\xff\xd9"


@pytest.mark.parametrize(
    ("between", "pixels"),
    [
        (b"", b"\x00\xff\x00\xff\xd0"),
        (b"", bytes(MAX_PIECE - 1) + b"\xff\x00"),
        (b"\xff\xfe\x00\x04\xff\xda", b""),
        (b"\xff\xff\xff", b"\xff\xd7"),
        (b"", b"\xff\x02\x7f\xf0"),
    ],
    ids=["escapes and restarts", "longer than a piece", "comments", "fill bytes", "no segment"],
)
def test_a_jpeg_of_more_scans_than_the_limit_is_refused_and_the_limit_itself_is_taken(
    between: bytes, pixels: bytes
) -> None:
    assert header_of(with_scans(MAX_JPEG_SCANS, between, pixels)).displayed_size == (40, 24)
    with pytest.raises(PictureTooCostly, match="100 scans") as caught:
        header_of(with_scans(MAX_JPEG_SCANS + 1, between, pixels))
    assert "PNG" in caught.value.remedy


def test_what_looks_like_a_scan_in_a_thumbnail_or_behind_the_end_does_not_count() -> None:
    thumbnail = b"\xff\xe2\x08\x02" + b"\xff\xda" * 1024
    data = with_scans(2, thumbnail)
    assert header_of(data + data * MAX_JPEG_SCANS).displayed_size == (40, 24)


def test_scans_cannot_hide_behind_more_segments_than_are_looked_at() -> None:
    with pytest.raises(PictureUnreadable, match="segments"):
        header_of(with_scans(1, b"\xff\xfe\x00\x02" * MAX_PARTS) + b"\xff\xd8" + with_scans(MAX_JPEG_SCANS))


def assert_handled(data: bytes) -> None:
    """Either a header within the limits or one of the picture errors, by a bounded number of bytes."""
    file = CountingFile(data)
    limits = PictureLimits()
    try:
        header = read_header(file, limits)
    except PictureError as error:
        assert error.remedy
    else:
        assert 0 < header.width * header.height <= limits.max_pixels
        assert 1 <= header.orientation <= 8
    assert file.total <= MAX_TOTAL
    assert file.largest <= MAX_PIECE


SIGNATURES = (b"", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8X")


@settings(max_examples=300)
@given(st.sampled_from(SIGNATURES), st.binary(max_size=400))
def test_random_bytes_give_a_header_or_a_picture_error(signature: bytes, rest: bytes) -> None:
    assert_handled(signature + rest)


@settings(max_examples=300)
@given(st.sampled_from(sorted(REAL_FILES)), st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=8))
def test_damaged_files_give_a_header_or_a_picture_error(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(REAL_FILES[name])
    for offset, value in changes:
        data[offset % len(data)] = value
    assert_handled(bytes(data))


def test_it_reads_a_real_file_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(saved("PNG"))
    with path.open("rb") as file:
        assert read_header(file, PictureLimits()).displayed_size == (40, 24)


def test_it_needs_no_picture_library() -> None:
    code = "import sys, qied_client.picture_header.header; sys.exit(bool({'PIL', 'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
