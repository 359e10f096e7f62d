"""PNG in strips, which threads filter and compress side by side; the file is an ordinary PNG.

A strip's rows are compressed into deflate blocks of their own, which end at a whole byte (zlib's full flush) and look
back at no other strip, so the strips' bytes in a row are one valid stream. Strips have the same height whatever the
number of threads, so equal pixels give equal bytes.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_ZLIB_HEADER: Final = b"\x78\x01"
_COLOUR_TYPES: Final = {"RGB": 2, "RGBA": 6}
_STRIP_ROWS: Final = 64
"""A strip of a picture 1024 pixels wide has 200 kB: it stays in a core's cache while it is filtered."""
_MOST_THREADS: Final = 8
# Measured at 1024 x 1024 on photograph-like pictures: matching runs only gives files 3 to 11 % smaller than level 6's
# full search in a fifth to two fifths of its time, as little repeats exactly behind PNG's filters. Only drawn text and
# tiled texture come out larger (4 and 13 times), which no decoder of latents makes.
_LEVEL: Final = 1
_STRATEGY: Final = zlib.Z_RLE
_MEMORY: Final = 9

Bytes2d = NDArray[np.uint8]


def encode_png(image: Image.Image, chunks: Iterable[tuple[bytes, bytes]], threads: int | None = None) -> bytes:
    """Encode an "RGB" or "RGBA" picture, with ``chunks`` (type, bytes) before its pixels.

    ``threads``: at most so many at once; None: one for each processor of this process, up to 8.
    """
    colour_type = _COLOUR_TYPES[image.mode]
    channels = len(image.getbands())
    rows = np.asarray(image).reshape(image.height, image.width * channels)
    tops = range(0, image.height, _STRIP_ROWS)

    def strip(top: int) -> tuple[bytes, bytes]:
        above = rows[top - 1] if top else np.zeros(rows.shape[1], np.uint8)
        filtered = _filtered(rows[top : top + _STRIP_ROWS], above, channels).tobytes()
        return filtered, _deflated(filtered, last=top + _STRIP_ROWS >= image.height)

    workers = min(len(tops), _threads() if threads is None else threads)
    if workers > 1:
        with ThreadPoolExecutor(workers, thread_name_prefix="png") as pool:
            strips = list(pool.map(strip, tops))
    else:
        strips = [strip(top) for top in tops]
    checksum = 1
    for filtered, _ in strips:
        checksum = zlib.adler32(filtered, checksum)
    stream = b"".join([_ZLIB_HEADER, *(deflated for _, deflated in strips), struct.pack(">I", checksum)])
    header = struct.pack(">IIBBBBB", image.width, image.height, 8, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", stream), (b"IEND", b"")]
    return b"".join([_SIGNATURE, *(_chunk(kind, data) for kind, data in parts)])


def _filtered(rows: Bytes2d, above: Bytes2d, channels: int) -> Bytes2d:
    """Rows behind PNG's filters, each row with the one whose differences are smallest, and its number in front.

    The sum of absolute differences is what the PNG standard proposes (section 12.7). Unfiltered rows never win on
    pictures with a background, so that filter is left out.
    """
    up = np.concatenate([above[None], rows[:-1]])
    left, up_left = np.zeros_like(rows), np.zeros_like(rows)
    left[:, channels:] = rows[:, :-channels]
    up_left[:, channels:] = up[:, :-channels]
    average = (left >> 1) + (up >> 1) + (left & up & 1)
    candidates = ((1, rows - left), (2, rows - up), (3, rows - average), (4, rows - _paeth(left, up, up_left)))
    cost = [_magnitude(differences).sum(axis=1, dtype=np.int64) for _, differences in candidates]
    best = np.argmin(cost, axis=0)
    filtered = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    for index, (number, differences) in enumerate(candidates):
        chosen = best == index
        filtered[chosen, 0] = number
        filtered[chosen, 1:] = differences[chosen]
    return filtered


def _magnitude(differences: Bytes2d) -> Bytes2d:
    """How far each byte is from 0, either way round."""
    return np.minimum(differences, 0 - differences)


def _paeth(left: Bytes2d, up: Bytes2d, up_left: Bytes2d) -> Bytes2d:
    """Whichever neighbour is nearest to left + up - up_left; left before up before up_left where they are equal."""
    a, b, c = (values.astype(np.int16) for values in (left, up, up_left))
    to_left, to_up, to_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    other = np.where(to_up <= to_corner, up, up_left)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, other)


def _deflated(data: bytes, *, last: bool) -> bytes:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, _MEMORY, _STRATEGY)
    return compressor.compress(data) + compressor.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _threads() -> int:
    try:
        return min(_MOST_THREADS, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on every system
        return min(_MOST_THREADS, os.cpu_count() or 1)
