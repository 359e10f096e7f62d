"""Finding size and orientation in the chunks of PNG and WebP files and in the segments of JPEG files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from qied_client.errors import PictureUnreadable, UnsupportedPicture
from qied_client.picture_header.bounded_reader import MAX_PIECE, BoundedReader
from qied_client.picture_header.exif import UPRIGHT, orientation

MAX_PARTS = 16_384
_MAX_STRAY_BYTES = 1024
_JPEG_SIZE_SEGMENTS = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_JPEG_OTHER_PROCESSES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF})
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_END_OF_HEADER = frozenset({0xD9, 0xDA})
_JPEG_APP1 = 0xE1
_EXPORT_AGAIN = "Export the picture again as PNG, JPEG or WebP."


class Scan(NamedTuple):
    """Width and height in pixels as stored, and the Exif orientation, 1 to 8."""

    width: int
    height: int
    orientation: int


class _Part(NamedTuple):
    name: bytes
    length: int


def scan_png(reader: BoundedReader) -> Scan:
    """Read a PNG from its signature on; raises PictureUnreadable if IHDR is missing, damaged or truncated.

    The Exif block may lie behind the pixels, so the chunks are stepped over to the end, at most ``MAX_PARTS``.
    """
    reader.skip(8)
    length, name = struct.unpack(">I4s", reader.take(8))
    if name != b"IHDR" or length != 13:
        raise PictureUnreadable("The PNG does not begin with its size (no IHDR chunk).", _EXPORT_AGAIN)
    width, height = struct.unpack(">II", reader.take(8))
    reader.skip(9)
    return Scan(width, height, _exif_among(_png_chunks(reader), reader, b"eXIf"))


def _png_chunks(reader: BoundedReader) -> Iterator[_Part]:
    for _ in range(MAX_PARTS):
        if reader.position + 12 > reader.size:
            return
        length, name = struct.unpack(">I4s", reader.take(8))
        body = reader.position
        yield _Part(name, length)
        reader.skip(body + length + 4 - reader.position)


def scan_webp(reader: BoundedReader) -> Scan:
    """Read a WebP from its RIFF header on; raises PictureUnreadable if its first chunk is not a picture.

    An animation has the size of its canvas.
    """
    reader.skip(12)
    name, length = struct.unpack("<4sI", reader.take(8))
    body = reader.position
    if name == b"VP8X":
        width, height = _webp_canvas(reader.take(10))
        reader.skip(body + length + length % 2 - reader.position)
        return Scan(width, height, _exif_among(_riff_chunks(reader), reader, b"EXIF"))
    if name == b"VP8L":
        return Scan(*_webp_lossless(reader.take(5)), UPRIGHT)
    if name == b"VP8 ":
        return Scan(*_webp_lossy(reader.take(10)), UPRIGHT)
    raise PictureUnreadable("The WebP does not begin with a picture.", _EXPORT_AGAIN)


def _webp_canvas(body: bytes) -> tuple[int, int]:
    return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1


def _webp_lossless(body: bytes) -> tuple[int, int]:
    if body[0] != 0x2F:
        raise PictureUnreadable("The lossless WebP lacks its signature.", _EXPORT_AGAIN)
    bits = int.from_bytes(body[1:], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _webp_lossy(body: bytes) -> tuple[int, int]:
    if body[0] & 1 or body[3:6] != b"\x9d\x01\x2a":
        raise PictureUnreadable("The lossy WebP does not begin with a key frame.", _EXPORT_AGAIN)
    width, height = struct.unpack("<HH", body[6:])
    return width & 0x3FFF, height & 0x3FFF


def _riff_chunks(reader: BoundedReader) -> Iterator[_Part]:
    for _ in range(MAX_PARTS):
        if reader.position + 8 > reader.size:
            return
        name, length = struct.unpack("<4sI", reader.take(8))
        body = reader.position
        yield _Part(name, length)
        reader.skip(body + length + length % 2 - reader.position)


def _exif_among(parts: Iterator[_Part], reader: BoundedReader, name: bytes) -> int:
    """Orientation of the first chunk called ``name``, of which the first 64 KiB are looked at."""
    for part in parts:
        if part.name == name:
            return orientation(reader.take(min(part.length, MAX_PIECE, reader.size - reader.position)))
    return UPRIGHT


def scan_jpeg(reader: BoundedReader) -> Scan:
    """Read a JPEG from its start marker on, as far as the first scan of pixels.

    Raises PictureUnreadable where no frame header comes before that, and UnsupportedPicture for lossless,
    hierarchical and 12-bit JPEG.
    """
    size: tuple[int, int] | None = None
    turn: int | None = None
    for marker, length in _jpeg_segments(reader):
        if marker in _JPEG_OTHER_PROCESSES:
            raise UnsupportedPicture("The JPEG is of a lossless or hierarchical kind.", _EXPORT_AGAIN)
        if marker in _JPEG_SIZE_SEGMENTS and size is None:
            size = _jpeg_size(reader.take(6))
        elif marker == _JPEG_APP1 and turn is None and reader.peek(min(length, 6)) == b"Exif\0\0":
            turn = orientation(reader.take(min(length, reader.size - reader.position)))
    if size is None:
        raise PictureUnreadable(
            "The JPEG's header is truncated: it gives no size.", "Copy or export the picture again."
        )
    return Scan(*size, turn or UPRIGHT)


def _jpeg_size(body: bytes) -> tuple[int, int]:
    precision, height, width, components = struct.unpack(">BHHB", body)
    if precision != 8 or components not in (1, 3, 4):
        raise UnsupportedPicture(f"The JPEG has {components} channels of {precision} bits.", _EXPORT_AGAIN)
    return width, height


def _jpeg_segments(reader: BoundedReader) -> Iterator[tuple[int, int]]:
    """Marker and body length of each segment with a body, the reader at its start; ends where the pixels begin."""
    reader.skip(2)
    stray = _MAX_STRAY_BYTES
    for _ in range(MAX_PARTS):
        marker, passed = _next_marker(reader, stray)
        stray -= passed
        if marker is None or marker in _JPEG_END_OF_HEADER:
            return
        if marker in _JPEG_WITHOUT_LENGTH:
            continue
        if reader.position + 2 > reader.size:
            return
        length = max(int.from_bytes(reader.take(2), "big") - 2, 0)
        body = reader.position
        yield marker, length
        reader.skip(body + length - reader.position)


def _next_marker(reader: BoundedReader, limit: int) -> tuple[int | None, int]:
    """The next marker code, or None at the end of the file, and how many bytes that belong nowhere came before it."""
    previous = 0
    for passed in range(limit + 2):
        if reader.position >= reader.size:
            return None, passed
        (byte,) = reader.take(1)
        if previous == 0xFF and byte not in (0x00, 0xFF):
            return byte, passed - 1
        previous = byte
    raise PictureUnreadable("The JPEG's header is damaged: a marker is missing.", _EXPORT_AGAIN)
