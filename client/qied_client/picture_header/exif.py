"""The orientation tag of an Exif block, the only part of Exif that changes how a picture looks."""

from __future__ import annotations

import struct

UPRIGHT = 1
_ORIENTATION_TAG = 0x0112
_SHORT = 3
_MAX_ENTRIES = 1024
_PREFIX = b"Exif\0\0"


def orientation(block: bytes) -> int:
    """Return the orientation, 1 to 8, that an Exif block gives for the main picture.

    ``block`` is a TIFF structure with or without the prefix that JPEG puts before it, and may be truncated. A block
    that has no valid orientation counts as upright (1), as viewers treat it.
    """
    tiff = block.removeprefix(_PREFIX)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return UPRIGHT
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    if start + 2 > len(tiff):
        return UPRIGHT
    (count,) = struct.unpack_from(order + "H", tiff, start)
    entries = range(start + 2, len(tiff) - 11, 12)[: min(count, _MAX_ENTRIES)]
    for offset in entries:
        tag, kind, values, value = struct.unpack_from(order + "HHIH", tiff, offset)
        if tag == _ORIENTATION_TAG:
            return value if kind == _SHORT and values == 1 and 1 <= value <= 8 else UPRIGHT
    return UPRIGHT
