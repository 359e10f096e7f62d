"""Upscaling in planning: which model a request means, and the tiles that it is run in. Pure.

Upscaling takes its turn after decoding, in the memory that the plan has for that: tiles are as large as fit there, and
an edit is promised the larger of the two.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from qied_client.errors import InvalidRequest
from qied_client.protocol.request import AUTO_UPSCALER

UpscalerPrecision = Literal["fp32", "fp16", "bf16"]
MARGIN_PX: Final = 32
"""Pixels around a tile that the network sees and whose result is not used."""
SMALLEST_TILE_PX: Final = 64
LARGEST_TILE_PX: Final = 512
_USUAL_SCALE: Final = 4
_FP32: Final = 4
_WORKSPACE: Final = 1.5
"""What an operation needs besides its inputs and outputs, as a factor. An estimate where no card has measured it."""


@dataclass(frozen=True)
class UpscalerFacts:
    """One model: each side of a picture becomes ``scale`` times as long.

    ``architecture`` is "rrdb", "compact", or spandrel's name of another one. ``features`` are the channels of its
    layers, ``growth`` those that a dense layer of RRDB adds, ``blocks`` the RRDBs, or the layers of a compact one
    between its first and last. ``shuffle``: pixels along each side that RRDB gathers into channels at first. Those are
    0 (1 for ``shuffle``) for other architectures, whose tensors in FP32 take ``pixel_bytes`` for each pixel of a tile
    at their peak. ``measured_bytes``: what a card took for each pixel, with all that its kernels need; 0 if unknown.
    ``pixel_operations`` are those of others for each pixel.
    """

    architecture: str
    scale: int
    features: int
    growth: int
    blocks: int
    shuffle: int
    parameters: int
    pixel_bytes: int = 0
    measured_bytes: int = 0
    pixel_operations: int = 0

    @property
    def doublings(self) -> int:
        """How often RRDB doubles both sides."""
        return (self.scale * self.shuffle).bit_length() - 1


def upscale_bytes(facts: UpscalerFacts, tile_px: int) -> int:
    """Bytes of the device at the peak of a tile with its margins, with the weights: everything in FP32.

    RRDB holds a block's concatenated channels and the inputs of three nested sums, and at its end two full-size maps
    and the one that they are made from. Other architectures were counted at a trial, and take as much for each pixel.
    """
    pixels = (tile_px + 2 * MARGIN_PX) ** 2
    enlarged = facts.scale**2
    if facts.architecture == "rrdb":
        inner = (5 * facts.features + 4 * facts.growth) / facts.shuffle**2
        values = max(inner, (3 * enlarged + 1 / facts.shuffle**2) * facts.features)
    elif facts.architecture == "compact":
        values = 3 * facts.features + 9 * enlarged
    else:
        values = facts.pixel_bytes / _FP32
    return int(pixels * max(values * _FP32 * _WORKSPACE, facts.measured_bytes)) + facts.parameters * _FP32


def upscale_operations(facts: UpscalerFacts, size: tuple[int, int], tile_px: int) -> float:
    """Operations of a whole picture of (width, height) in such tiles, with their margins: two for each product."""
    spread = [sum(min(side, low + tile_px + MARGIN_PX) - max(0, low - MARGIN_PX) for low in range(0, side, tile_px))
              for side in size]  # fmt: skip
    return float(spread[0] * spread[1]) * _pixel_operations(facts)


def _pixel_operations(facts: UpscalerFacts) -> float:
    """Operations for each pixel of what goes in; those of convolutions alone, which are nearly all of them."""
    width, growth = facts.features, facts.growth
    if facts.architecture == "rrdb":
        dense = sum(_conv(width + number * growth, growth) for number in range(4)) + _conv(width + 4 * growth, width)
        small = facts.blocks * 3 * dense + _conv(width, width) + _conv(3 * facts.shuffle**2, width)
        doubled = sum((_conv(width, width) << 2 * number) for number in range(1, facts.doublings + 1))
        whole = (_conv(width, width) + _conv(width, 3)) * facts.scale**2
        return (small + doubled) / float(facts.shuffle**2) + whole
    if facts.architecture == "compact":
        return _conv(3, width) + facts.blocks * _conv(width, width) + _conv(width, 3 * facts.scale**2)
    return facts.pixel_operations


def _conv(into: int, out: int) -> int:
    """Operations of a 3 x 3 convolution for each of its pixels."""
    return 2 * 9 * into * out


def upscale_tile(facts: UpscalerFacts, room_bytes: int) -> int:
    """The side of the tiles in pixels of the input: the largest that fits the room, but never below the smallest."""
    tile = LARGEST_TILE_PX
    while tile > SMALLEST_TILE_PX and upscale_bytes(facts, tile) > room_bytes:
        tile //= 2
    return tile


def chosen_upscaler(wanted: str, upscalers: Mapping[str, UpscalerFacts]) -> tuple[str, UpscalerFacts]:
    """The model that a request means, by its name or as ``2x`` or ``4x``: the first one of that scale.

    ``auto`` is 4x, or the scale nearest to that. Raises InvalidRequest, which names the nearest name.
    """
    if wanted in upscalers:
        return wanted, upscalers[wanted]
    if wanted == AUTO_UPSCALER and upscalers:
        return min(sorted(upscalers.items()), key=lambda each: abs(each[1].scale - _USUAL_SCALE))
    if times := re.fullmatch(r"([1-8])x", wanted):
        for name, facts in sorted(upscalers.items()):
            if facts.scale == int(times[1]):
                return name, facts
    raise InvalidRequest(
        f"upscale: this daemon has no upscaler {wanted!r}.", _remedy(wanted, upscalers), field="upscale"
    )


_SHOWN: Final = 8


def _remedy(wanted: str, upscalers: Mapping[str, UpscalerFacts]) -> str:
    if not upscalers:
        return "It has none: ask its owner to put one into a folder of model.upscalers."
    last = {name.rpartition("/")[2].lower(): name for name in upscalers} | {name.lower(): name for name in upscalers}
    near = difflib.get_close_matches(wanted.lower(), last, n=1)
    names = [f"{name} ({facts.scale}x)" for name, facts in sorted(upscalers.items())]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    meant = f"Did you mean {last[near[0]]!r}? " if near else ""
    return f"{meant}It has {', '.join(names[:_SHOWN])}{more}."
