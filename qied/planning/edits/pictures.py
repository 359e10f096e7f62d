"""What pictures take of the host: while they are decoded, as edits hold them, and as large results. Pure."""

from __future__ import annotations

from typing import Final

from qied_client.protocol import limits

from qied.planning.edits.workload import Workload

MIB: Final = 1024**2
DECODERS: Final = 4
"""Processes that decode pictures; each has one picture at a time, and so one user's."""
DECODING_ROOM: Final = 1792 * MIB
"""Bytes for the pictures that are decoded at the same time: the largest one, together with some of common sizes."""
LEAST_ROOM: Final = 512 * MIB
"""The room where the host has little memory: for pictures of some 20 megapixels, and larger ones are refused."""
_DECODER_AT_REST: Final = 64 * MIB
_PIXEL: Final = 20
"""Bytes of a pixel while it is decoded, at most: lossless WebP with opacity takes 18, PNG and JPEG 9 to 12."""
_COPIES_OF_FILE: Final = 4
"""One in the worker, and up to three in the process that decodes it."""
_OTHER: Final = 64 * MIB
_HELD_PIXEL: Final = 4
"""Bytes that Pillow takes for a pixel of an RGB picture; opacity takes one for each pixel of the result."""
_SEEN_PIXEL: Final = 12
"""Bytes of a pixel of what the model sees: three colours in FP32, where an edit is done as ComfyUI does it."""


CANVAS_PIXELS: Final = limits.BLOB_BYTES * 100 // 101 // 3
"""The largest canvas: one as large as this can be sent as it is."""
RESULT_PIXEL: Final = 56
"""Bytes of a pixel of a large result, from the engine to its file: levels, Pillow's pictures with and without opacity,
one that is moved to where the original lies, what the encoder takes, and the file. WebP takes the most."""
RESULTS_ROOM: Final = RESULT_PIXEL * limits.PIXELS
"""Bytes for results that are larger than the model draws: the largest one, or several smaller ones."""
LEAST_RESULTS: Final = RESULT_PIXEL * 8 * MIB
"""The room where the host has little memory: for results of 8 megapixels, and larger ones are refused."""


def decoding_bytes(pixels: int, file_bytes: int) -> int:
    """Bytes that decoding a picture may take of its process, whatever is in the file."""
    return pixels * _PIXEL + file_bytes * _COPIES_OF_FILE + _OTHER


def held_bytes(work: Workload, vision_pixels: int, active: int) -> int:
    """Bytes of host memory for the views that ``active`` edits of this size hold, and for idle decoders."""
    seen = work.references * (work.reference_pixels + vision_pixels)
    # Of the result's size: a mask and what it keeps, or the canvas of passes and what it is aligned with.
    laid = 2 * work.target_pixels if work.masked else 0
    return active * (seen * _SEEN_PIXEL + laid * _HELD_PIXEL + work.target_pixels) + DECODERS * _DECODER_AT_REST


def decoding_room(spare_bytes: int | None) -> int:
    """Bytes for pictures that are decoded, where so many are free for it; None where that is not known."""
    return DECODING_ROOM if spare_bytes is None else max(LEAST_ROOM, min(spare_bytes, DECODING_ROOM))


def results_room(spare_bytes: int | None, largest_pixels: int) -> int:
    """Bytes for large results of up to ``largest_pixels``, where so many are free for it; None: not known."""
    most = max(LEAST_RESULTS, RESULT_PIXEL * largest_pixels)
    return most if spare_bytes is None else max(LEAST_RESULTS, min(spare_bytes, most))
