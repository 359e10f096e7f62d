"""Finding size and orientation in the first bits of JPEG XL files (ISO/IEC 18181-1 and -2)."""

from __future__ import annotations

import struct

from qied_client.errors import PictureUnreadable
from qied_client.picture_header.bounded_reader import BoundedReader
from qied_client.picture_header.scanners import MAX_PARTS, Scan

_CODESTREAM = b"\xff\x0a"
_HEADER_BYTES = 32
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIDE_BITS = (9, 13, 18, 30)


class _Bits:
    """Reads numbers from the least significant bit on."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise _unreadable()
        found = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return found


def scan_jpeg_xl(reader: BoundedReader) -> Scan:
    """Read a JPEG XL, bare or in boxes; raises PictureUnreadable where its first bits are not there.

    The orientation is the codestream's, which counts, not that of Exif. It may always be transparent.
    """
    if reader.peek(2) != _CODESTREAM:
        _to_codestream(reader)
    start = reader.peek(_HEADER_BYTES)
    if not start.startswith(_CODESTREAM):
        raise _unreadable()
    bits = _Bits(start[2:])
    small = bits.take(1)
    height = _side(bits, small)
    ratio = bits.take(3)
    width = _side(bits, small) if ratio == 0 else height * _RATIOS[ratio - 1][0] // _RATIOS[ratio - 1][1]
    all_default = bits.take(1)
    orientation = 1 + bits.take(3) if not all_default and bits.take(1) else 1
    return Scan(width, height, orientation, alpha=True)


def _side(bits: _Bits, small: int) -> int:
    if small:
        return (bits.take(5) + 1) * 8
    return bits.take(_SIDE_BITS[bits.take(2)]) + 1


def _to_codestream(reader: BoundedReader) -> None:
    """Move to the codestream within the boxes of a container."""
    for _ in range(MAX_PARTS):
        if reader.position + 8 > reader.size:
            break
        size, kind = struct.unpack(">I4s", reader.take(8))
        header = 8
        if size == 1:
            (size,) = struct.unpack(">Q", reader.take(8))
            header = 16
        if kind == b"jxlp":
            reader.skip(4)
        if kind in (b"jxlp", b"jxlc"):
            return
        if not size:
            break
        reader.skip(max(size - header, 0))
    raise _unreadable()


def _unreadable() -> PictureUnreadable:
    return PictureUnreadable("The JPEG XL's header does not give its size.", "Export the picture again, or as PNG.")
