"""Expands NVFP4 and MXFP8, which have a scale for each few neighbours: each number is rounded at most once."""

from __future__ import annotations

from functools import cache
from typing import Final

import torch
from torch import Tensor

from qied.engine.weights.quantise import row_chunks
from qied.weights.block_scales import GROUPS, TILE_ROWS, TILE_SCALES

_E2M1: Final = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
"""What the 16 codes of E2M1 stand for (OCP's MX specification 1.0, section 5.3.3)."""
_LINES: Final = 32
"""Lines of a tile; each has every 32nd row."""
_E8M0_BIAS, _E8M0_NAN, _FP32_FRACTION = 127, 255, 23


def expand_blocks_into(values: Tensor, block_scale: Tensor, scale: Tensor | None, result: Tensor) -> None:
    """Numbers times their scales, to ``result`` [rows, inputs], by way of FP32 copies of some rows at a time.

    ``values``: uint8 [rows, inputs / 2] of NVFP4, or E4M3 [rows, inputs] of MXFP8. ``block_scale``: E4M3, or uint8 of
    E8M0, in tiles. ``scale``: NVFP4's one for all, FP32 [1].
    """
    for part in row_chunks(*result.shape):
        rows = torch.arange(part.start, part.stop, device=values.device)
        result[part] = expand_rows(values[part], block_scale, rows, scale)


def expand_rows(values: Tensor, block_scale: Tensor, rows: Tensor, scale: Tensor | None) -> Tensor:
    """Some rows, FP32 [n, inputs]: ``values`` [n, ...] are theirs, ``rows`` (int64 [n]) their numbers in the weight."""
    codes = _of_rows(block_scale, rows)
    if values.dtype == torch.uint8:
        numbers, factors, group = _e2m1(values), codes.float(), GROUPS["nvfp4"]
    else:
        numbers, factors, group = values.float(), _powers_of_two(codes), GROUPS["mxfp8"]
    factors = factors[:, : numbers.shape[1] // group]
    # Exact: an E4M3 scale has four significant bits, and a number two; so is a power of two times a number in E4M3.
    numbers.view(len(numbers), -1, group).mul_(factors.unsqueeze(2))
    return numbers if scale is None else numbers.mul_(scale)


def _e2m1(packed: Tensor) -> Tensor:
    """Two numbers of each byte, the one in its high half first: FP32 [rows, 2 n] of uint8 [rows, n]."""
    codes = torch.stack([packed >> 4, packed & 15], dim=-1).view(len(packed), -1)
    return _e2m1_values(packed.device)[codes.int()]


@cache
def _e2m1_values(device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(_E2M1, dtype=torch.float32, device=device)


def _powers_of_two(codes: Tensor) -> Tensor:
    """What codes of E8M0, uint8, stand for in FP32: 2^(code - 127), and NaN for the last one."""
    # A code is the exponent of a number in FP32, but for the first one (which is subnormal there) and the last.
    exponents = codes.view(torch.uint8).int()
    powers = (exponents << _FP32_FRACTION).view(torch.float32)
    return powers.masked_fill_(exponents == 0, 2.0**-_E8M0_BIAS).masked_fill_(exponents == _E8M0_NAN, torch.nan)


def _of_rows(tiles: Tensor, rows: Tensor) -> Tensor:
    """The scales of some rows, [n, scales in whole tiles], from the tiles that cuBLAS takes.

    A tile is 128 x 4: its row r lies in line r % 32, as the (r / 32)-th four (cuBLAS, "1D block scaling factors").
    """
    high, wide = tiles.shape
    shape = high // TILE_ROWS, wide // TILE_SCALES, _LINES, TILE_ROWS // _LINES, TILE_SCALES
    found = tiles.view(torch.uint8).reshape(shape)[rows // TILE_ROWS, :, rows % _LINES, rows % TILE_ROWS // _LINES]
    return found.reshape(len(rows), wide).view(tiles.dtype)
