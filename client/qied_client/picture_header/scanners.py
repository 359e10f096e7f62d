"""Finding size and orientation in the chunks of PNG and WebP files and the segments of JPEG files, and their scans."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from qied_client.errors import PictureTooCostly, PictureUnreadable, UnsupportedPicture
from qied_client.picture_header.bounded_reader import MAX_PIECE, BoundedReader
from qied_client.picture_header.exif import UPRIGHT, orientation

MAX_PARTS = 16_384
MAX_JPEG_SCANS = 100
"""Each scan passes over all pixels, however few bytes it has. Encoders write about ten."""
_MAX_STRAY_BYTES = 1024
_JPEG_SIZE_SEGMENTS = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_JPEG_OTHER_PROCESSES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF})
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_END = 0xD9
_JPEG_SCAN = 0xDA
_JPEG_APP1 = 0xE1
_AFTER_JPEG_PIXELS = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
"""A marker that ends the pixels of a scan, which restarts do not, nor codes that no decoder takes for a segment."""
_PNG_ALPHA = (4, 6)
_WEBP_ALPHA = 0x10
"""The bit for it in the flags of VP8X, and in the last byte of a lossless picture's size."""
_EXPORT_AGAIN = "Export the picture again as PNG, JPEG or WebP."


class Scan(NamedTuple):
    """Width and height in pixels as stored, the Exif orientation, 1 to 8, and whether it can be transparent."""

    width: int
    height: int
    orientation: int
    alpha: bool = False


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
    width, height, _, colours = struct.unpack(">IIBB", reader.take(10))
    reader.skip(7)
    turn, alpha = _exif_among(_png_chunks(reader), reader, b"eXIf", b"tRNS")
    return Scan(width, height, turn, alpha or colours in _PNG_ALPHA)


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
        canvas = reader.take(10)
        width, height = _webp_canvas(canvas)
        reader.skip(body + length + length % 2 - reader.position)
        turn, _ = _exif_among(_riff_chunks(reader), reader, b"EXIF")
        return Scan(width, height, turn, bool(canvas[0] & _WEBP_ALPHA))
    if name == b"VP8L":
        start = reader.take(5)
        return Scan(*_webp_lossless(start), UPRIGHT, bool(start[4] & _WEBP_ALPHA))
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


def _exif_among(parts: Iterator[_Part], reader: BoundedReader, name: bytes, also: bytes = b"") -> tuple[int, bool]:
    """Orientation of the first chunk called ``name``, of its first 64 KiB, and whether there is one called ``also``."""
    turn: int | None = None
    seen = False
    for part in parts:
        if part.name == name and turn is None:
            turn = orientation(reader.take(min(part.length, MAX_PIECE, reader.size - reader.position)))
        seen = seen or part.name == also
    return turn or UPRIGHT, seen


def scan_jpeg(reader: BoundedReader) -> Scan:
    """Read a JPEG from its start marker on; of what comes after the first scan of pixels, scans are counted.

    Raises PictureUnreadable where no frame header comes before the pixels, UnsupportedPicture for lossless,
    hierarchical and 12-bit JPEG, and PictureTooCostly for more than ``MAX_JPEG_SCANS`` scans.
    """
    size: tuple[int, int] | None = None
    turn: int | None = None
    scans = 0
    for marker, length in _jpeg_segments(reader):
        if marker == _JPEG_SCAN:
            scans += 1
            _check_scans(scans)
        elif scans:
            continue
        elif marker in _JPEG_OTHER_PROCESSES:
            raise UnsupportedPicture("The JPEG is of a lossless or hierarchical kind.", _EXPORT_AGAIN)
        elif marker in _JPEG_SIZE_SEGMENTS and size is None:
            size = _jpeg_size(reader.take(6))
        elif marker == _JPEG_APP1 and turn is None and reader.peek(min(length, 6)) == b"Exif\0\0":
            turn = orientation(reader.take(min(length, reader.size - reader.position)))
        if size is None and scans:
            break
    if size is None:
        raise PictureUnreadable(
            "The JPEG's header is truncated: it gives no size.", "Copy or export the picture again."
        )
    return Scan(*size, turn or UPRIGHT)


def _check_scans(scans: int) -> None:
    if scans > MAX_JPEG_SCANS:
        raise PictureTooCostly(
            f"The JPEG has more than {MAX_JPEG_SCANS} scans, which takes too long to decode.",
            "Save the picture again as PNG.",
            max_scans=MAX_JPEG_SCANS,
        )


def _jpeg_size(body: bytes) -> tuple[int, int]:
    precision, height, width, components = struct.unpack(">BHHB", body)
    if precision != 8 or components not in (1, 3, 4):
        raise UnsupportedPicture(f"The JPEG has {components} channels of {precision} bits.", _EXPORT_AGAIN)
    return width, height


def _jpeg_segments(reader: BoundedReader) -> Iterator[tuple[int, int]]:
    """Marker and body length of each segment with a body, the reader at its start; the pixels of scans are passed over.

    Raises PictureUnreadable for more than ``MAX_PARTS`` segments.
    """
    reader.skip(2)
    stray = _MAX_STRAY_BYTES
    for _ in range(MAX_PARTS):
        marker, passed = _next_marker(reader, stray)
        stray -= passed
        if marker is None or marker == _JPEG_END:
            return
        if marker in _JPEG_WITHOUT_LENGTH:
            continue
        if reader.position + 2 > reader.size:
            return
        length = max(int.from_bytes(reader.take(2), "big") - 2, 0)
        body = reader.position
        yield marker, length
        reader.skip(body + length - reader.position)
        if marker == _JPEG_SCAN:
            reader.find(_AFTER_JPEG_PIXELS)
    raise PictureUnreadable(f"The JPEG has more than {MAX_PARTS} segments.", _EXPORT_AGAIN)


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
