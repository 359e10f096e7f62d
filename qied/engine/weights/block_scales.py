"""Expands NVFP4 and MXFP8, which have a scale for each few neighbours, to FP32: each number is rounded at most once."""

from __future__ import annotations

from functools import cache
from typing import Final

import torch
from torch import Tensor

from qied.weights.block_scales import GROUPS, TILE_ROWS, TILE_SCALES, tiled

_E2M1: Final = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
"""What the 16 codes of E2M1 stand for (OCP's MX specification 1.0, section 5.3.3)."""
_COLUMNS: Final = 32
"""Lines of a tile; each has every 32nd row."""
_E8M0_BIAS, _E8M0_NAN, _FP32_FRACTION = 127, 255, 23


def expand_blocks(values: Tensor, block_scale: Tensor, scale: Tensor | None) -> Tensor:
    """Numbers times their scales, FP32 [rows, inputs].

    ``values``: uint8 [rows, inputs / 2] of NVFP4, or E4M3 [rows, inputs] of MXFP8. ``block_scale``: E4M3, or uint8 of
    E8M0, in tiles. ``scale``: NVFP4's one for all, FP32 [1].
    """
    if values.dtype == torch.uint8:
        numbers, factors, group = _e2m1(values), block_scale.float(), GROUPS["nvfp4"]
    else:
        numbers, factors, group = values.float(), _powers_of_two(block_scale), GROUPS["mxfp8"]
    rows, inputs = numbers.shape
    factors = _in_rows(factors, rows, inputs // group)
    # Exact: an E4M3 scale has four significant bits, and a number two; so is a power of two times a number in E4M3.
    numbers.view(rows, -1, group).mul_(factors.unsqueeze(2))
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


def _in_rows(tiles: Tensor, rows: int, scales: int) -> Tensor:
    """Scales [rows, scales in a row] from the tiles that cuBLAS takes.

    A tile is 128 x 4: its row r lies in line r % 32, as the (r / 32)-th four (cuBLAS, "1D block scaling factors").
    """
    high, wide = tiled(rows, scales)
    shape = high // TILE_ROWS, wide // TILE_SCALES, _COLUMNS, TILE_ROWS // _COLUMNS, TILE_SCALES
    return tiles.reshape(shape).permute(0, 3, 2, 1, 4).reshape(high, wide)[:rows, :scales]
