"""What pictures take of the host: while they are decoded, and as the reduced ones that edits hold. Pure."""

from __future__ import annotations

from typing import Final

from qied.edit import EditSpec
from qied.planning.geometry import reference_size, vision_size
from qied.planning.model_profile import ModelProfile
from qied.planning.view import View
from qied.planning.workload import Workload

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


def views_of(
    spec: EditSpec, blob: str, size: tuple[int, int], profile: ModelProfile, max_reference_pixels: int
) -> tuple[View, ...]:
    """All that an edit needs of one of its pictures, which has ``size`` (width, height): no other pixel is kept."""
    padding = spec.padding(size)
    extended = (size[0] + padding[0], size[1] + padding[1])
    sizes: list[tuple[int, int]] = []
    if spec.only_upscales:
        sizes.append((spec.width, spec.height))
    elif blob in spec.images:
        sizes.append(vision_size(profile, *extended))
        sizes.append(reference_size(profile, *extended, max_reference_pixels))
    if spec.mask is not None and blob == spec.images[0]:
        sizes.append((spec.width, spec.height))
    views = [View(*wanted, "lanczos", *padding) for wanted in sizes]
    if spec.keeps_opacity and blob == spec.images[0]:
        views.append(View(spec.width, spec.height, "opacity", *padding))
    return tuple(dict.fromkeys(views))


def mask_view(spec: EditSpec, size: tuple[int, int] = (0, 0)) -> View:
    """What an edit needs of its mask, which has ``size`` (width, height)."""
    return View(spec.width, spec.height, "box", *spec.padding(size))


def decoding_bytes(pixels: int, file_bytes: int) -> int:
    """Bytes that decoding a picture may take of its process, whatever is in the file."""
    return pixels * _PIXEL + file_bytes * _COPIES_OF_FILE + _OTHER


def held_bytes(work: Workload, vision_pixels: int, active: int) -> int:
    """Bytes of host memory for the views that ``active`` edits of this size hold, and for idle decoders."""
    held = work.references * (work.reference_pixels + vision_pixels) + (2 * work.target_pixels if work.masked else 0)
    return active * (held * _HELD_PIXEL + work.target_pixels) + DECODERS * _DECODER_AT_REST


def decoding_room(spare_bytes: int | None) -> int:
    """Bytes for pictures that are decoded, where so many are free for it; None where that is not known."""
    return DECODING_ROOM if spare_bytes is None else max(LEAST_ROOM, min(spare_bytes, DECODING_ROOM))
