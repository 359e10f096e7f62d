"""Finding size and orientation in the boxes of HEIC and AVIF files (ISO/IEC 23008-12, the file format of both)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from qied_client.errors import PictureUnreadable
from qied_client.picture_header.bounded_reader import MAX_PIECE, BoundedReader
from qied_client.picture_header.scanners import MAX_PARTS, Scan

_EXPORT_AGAIN = "Export the picture again, or as PNG or JPEG."
_LARGE = 1
"""A size of a box that says: 64 bits of the size come after the type."""
_TURNED = {
    # (quarter turns to the left, mirrored as): the Exif orientation that shows the same.
    (0, None): 1,
    (0, 1): 2,
    (2, None): 3,
    (0, 0): 4,
    (1, 0): 5,
    (3, 1): 5,
    (3, None): 6,
    (1, 1): 7,
    (3, 0): 7,
    (1, None): 8,
    (2, 0): 2,
    (2, 1): 4,
}


class _Box(NamedTuple):
    kind: bytes
    body: bytes


def scan_heif(reader: BoundedReader) -> Scan:
    """Read a HEIC or AVIF from its first box on; raises PictureUnreadable where no size of the main picture is found.

    The size is that before any turn. ``alpha`` is whether there is a picture of opacity, whatever it belongs to.
    """
    for _ in range(MAX_PARTS):
        if reader.position + 8 > reader.size:
            break
        size, kind = struct.unpack(">I4s", reader.take(8))
        header = 8
        if size == _LARGE:
            (size,) = struct.unpack(">Q", reader.take(8))
            header = 16
        length = max(size - header, 0) if size else reader.size - reader.position
        if kind == b"meta":
            return _of_meta(_taken(reader, length)[4:])
        reader.skip(length)
    raise _unreadable()


def _taken(reader: BoundedReader, length: int) -> bytes:
    """The body of a box, a piece at a time."""
    length = min(length, reader.size - reader.position)
    pieces = []
    while length > 0:
        pieces.append(reader.take(min(length, MAX_PIECE)))
        length -= len(pieces[-1])
    return b"".join(pieces)


def _of_meta(meta: bytes) -> Scan:
    boxes = dict(_boxes(meta))
    try:
        main = _main_item(boxes[b"pitm"])
        inside = dict(_boxes(boxes[b"iprp"]))
        properties = list(_boxes(inside[b"ipco"]))
        wanted = [
            properties[index - 1] for index in _properties_of(main, inside[b"ipma"]) if 0 < index <= len(properties)
        ]
        width, height = next(struct.unpack(">4xII", box.body[:12]) for box in wanted if box.kind == b"ispe")
    except (KeyError, IndexError, StopIteration, struct.error):
        raise _unreadable() from None
    turns = next((box.body[0] & 3 for box in wanted if box.kind == b"irot" and box.body), 0)
    mirror = next((box.body[0] & 1 for box in wanted if box.kind == b"imir" and box.body), None)
    alpha = any(box.kind == b"auxC" and b"alpha" in box.body for box in properties)
    return Scan(width, height, _TURNED[turns, mirror], alpha)


def _boxes(data: bytes) -> Iterator[_Box]:
    position = 0
    while position + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        if size < 8:
            return
        yield _Box(kind, data[position + 8 : position + size])
        position += size


def _main_item(body: bytes) -> int:
    """The number of the picture that is meant, among thumbnails, tiles and depths."""
    wide = body[0] > 0
    (number,) = struct.unpack_from(">I" if wide else ">H", body, 4)
    return int(number)


def _properties_of(item: int, body: bytes) -> list[int]:
    """Places of an item's properties, counted from 1, in the order in which they are applied."""
    wide_numbers, wide_places = body[0] > 0, bool(body[3] & 1)
    (count,) = struct.unpack_from(">I", body, 4)
    position = 8
    for _ in range(min(count, MAX_PARTS)):
        (number,) = struct.unpack_from(">I" if wide_numbers else ">H", body, position)
        position += 4 if wide_numbers else 2
        places = body[position]
        position += 1
        size = 2 if wide_places else 1
        if number == item:
            mask = 0x7FFF if wide_places else 0x7F
            starts = range(position, position + places * size, size)
            return [int.from_bytes(body[start : start + size], "big") & mask for start in starts]
        position += places * size
    return []


def _unreadable() -> PictureUnreadable:
    return PictureUnreadable("The picture's boxes do not give its size.", _EXPORT_AGAIN)
