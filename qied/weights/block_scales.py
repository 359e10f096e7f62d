"""Weights with a scale for each few neighbours in a row, as ComfyUI keeps them: NVFP4 and MXFP8.

NVFP4 has E2M1 numbers, two in a byte with the first in its high half, an E4M3 scale for each 16 and one in FP32 for all
(``weight_scale_2``). MXFP8 has E4M3 numbers and an E8M0 scale for each 32, as the OCP's MX specification has them. The
scales of both lie in the tiles of 128 rows and 4 scales that cuBLAS takes, filled up with zeros. Other programs keep
the same numbers in another order, which no header tells, so only what ComfyUI has marked is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal

from qied.weights.header import TensorEntry
from qied.weights.problems import BadFile

BlockScaled = Literal["nvfp4", "mxfp8"]
GROUPS: Final[Mapping[str, int]] = {"nvfp4": 16, "mxfp8": 32}
"""How many neighbours share a scale."""
TENSOR_SCALE: Final = ".weight_scale_2"
"""End of the name of NVFP4's scale for a whole weight."""
TILE_ROWS: Final = 128
TILE_SCALES: Final = 4
_SCALE_TYPES: Final[Mapping[str, tuple[str, ...]]] = {"nvfp4": ("F8_E4M3",), "mxfp8": ("U8", "F8_E8M0")}


def block_scaled(weight: TensorEntry, scale: TensorEntry | None) -> BlockScaled | None:
    """Which of both a weight is by the types of its tensor and of its ``weight_scale``; None for any other."""
    if scale is not None and weight.dtype == "U8" and scale.dtype in _SCALE_TYPES["nvfp4"]:
        return "nvfp4"
    if scale is not None and weight.dtype == "F8_E4M3" and scale.dtype in _SCALE_TYPES["mxfp8"]:
        return "mxfp8"
    return None


def whole_entry(name: str, kind: BlockScaled, weight: TensorEntry, scale: TensorEntry) -> TensorEntry:
    """The entry of a weight with the shape of its numbers; raises BadFile where its scales do not fit it."""
    packed = 2 if kind == "nvfp4" else 1
    if len(weight.shape) != 2 or 0 in weight.shape or weight.shape[1] * packed % GROUPS[kind]:
        raise BadFile(f"{name[:120]!r} is {list(weight.shape)}, which {kind} cannot be")
    rows, inputs = weight.shape[0], weight.shape[1] * packed
    wanted = tiled(rows, inputs // GROUPS[kind])
    if scale.shape != wanted:
        raise BadFile(f"the scales of {name[:120]!r} are {list(scale.shape)}, but should be {list(wanted)} for {kind}")
    return replace(weight, shape=(rows, inputs))


def tiled(rows: int, scales: int) -> tuple[int, int]:
    """The shape of a weight's scales [rows, scales in a row] in whole tiles."""
    return -(-rows // TILE_ROWS) * TILE_ROWS, -(-scales // TILE_SCALES) * TILE_SCALES
