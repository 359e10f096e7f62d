"""Expands the quantised blocks of GGUF files to FP32, by ggml's own definitions of them, on any device.

Each number is a code times a scale, less a minimum in some types. K-quants have a scale of 4 to 8 bits for 16 or 32
numbers, which is itself times a scale in FP16 for all 256. Every product and difference is rounded by itself, in the
order of ggml's reference (`dequantize_row_*` in ggml-quants.c), so that results are equal to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

import torch
from torch import Tensor

from qied.engine.weights.quantise import row_chunks
from qied.weights.gguf_types import BLOCKS

Expand = Callable[[Tensor], Tensor]
"""Blocks, uint8 [blocks, bytes of one], to FP32 [blocks, numbers of one]."""
_NONLINEAR: Final = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""What the codes of IQ4 stand for."""


def numbers_of(kind: str, row_bytes: int) -> int:
    """How many numbers a row of so many bytes holds."""
    block = BLOCKS[kind]
    return row_bytes // block.nbytes * block.numbers


def expand(stored: Tensor, kind: str, dtype: torch.dtype) -> Tensor:
    """Rows of blocks, uint8 [..., bytes of a row], as numbers [..., numbers of a row], rounded once to ``dtype``."""
    result = torch.empty((*stored.shape[:-1], numbers_of(kind, stored.shape[-1])), dtype=dtype, device=stored.device)
    expand_into(stored, kind, result)
    return result


def expand_into(stored: Tensor, kind: str, result: Tensor) -> None:
    """Like :func:`expand`, to ``result``; by way of FP32 copies of some rows at a time."""
    block, make = BLOCKS[kind], _EXPANDED[kind]
    rows = stored.reshape(-1, stored.shape[-1])
    target = result.view(-1, result.shape[-1])
    for part in row_chunks(*target.shape):
        blocks = rows[part].reshape(-1, block.nbytes)
        target[part] = make(blocks).view(-1, target.shape[-1])


def _halves(blocks: Tensor, start: int) -> Tensor:
    """The FP16 number at a byte of each block, as FP32 [blocks, 1]."""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def _split(data: Tensor, bits: int, group: int) -> Tensor:
    """Codes of 1, 2 or 4 bits: of each ``group`` bytes first all lowest codes, then all next ones.

    ``data`` is uint8 [blocks, n]; the result is uint8 [blocks, n * 8 / bits].
    """
    codes = (data.reshape(len(data), -1, 1, group) >> _shifts(bits, data.device)) & ((1 << bits) - 1)
    return codes.reshape(len(data), -1)


def _scaled(codes: Tensor, scales: Tensor) -> Tensor:
    """Codes FP32 [blocks, n] times scales FP32 [blocks, m], each for n / m codes that lie side by side."""
    return (codes.view(len(codes), scales.shape[1], -1) * scales.unsqueeze(2)).view(codes.shape)


def _q4_0(blocks: Tensor) -> Tensor:
    return (_split(blocks[:, 2:], 4, 16).float() - 8) * _halves(blocks, 0)


def _q4_1(blocks: Tensor) -> Tensor:
    return _split(blocks[:, 4:], 4, 16).float() * _halves(blocks, 0) + _halves(blocks, 2)


def _q5_0(blocks: Tensor) -> Tensor:
    return (_fifth_bit(blocks[:, 2:6], blocks[:, 6:]) - 16) * _halves(blocks, 0)


def _q5_1(blocks: Tensor) -> Tensor:
    return _fifth_bit(blocks[:, 4:8], blocks[:, 8:]) * _halves(blocks, 0) + _halves(blocks, 2)


def _fifth_bit(high: Tensor, low: Tensor) -> Tensor:
    """Codes FP32 [blocks, 32] of their four low bits, and the highest ones in order in four bytes."""
    return (_split(low, 4, 16) | _split(high, 1, 1) << 4).float()


def _q8_0(blocks: Tensor) -> Tensor:
    return blocks[:, 2:].view(torch.int8).float() * _halves(blocks, 0)


def _q2_k(blocks: Tensor) -> Tensor:
    factors = blocks[:, :16]
    scales = _halves(blocks, 80) * (factors & 15).float()
    minima = _halves(blocks, 82) * (factors >> 4).float()
    return _less(_scaled(_split(blocks[:, 16:80], 2, 32).float(), scales), minima)


def _q3_k(blocks: Tensor) -> Tensor:
    low, high = _split(blocks[:, 96:104], 4, 8), _split(blocks[:, 104:108], 2, 4)
    scales = _halves(blocks, 108) * ((low | high << 4).float() - 32)
    # The third bit is kept inverted.
    codes = _split(blocks[:, 32:96], 2, 32).float() - (_split(blocks[:, :32], 1, 32) ^ 1).float() * 4
    return _scaled(codes, scales)


def _q4_k(blocks: Tensor) -> Tensor:
    scales, minima = _k_scales(blocks)
    return _less(_scaled(_split(blocks[:, 16:], 4, 32).float(), scales), minima)


def _q5_k(blocks: Tensor) -> Tensor:
    scales, minima = _k_scales(blocks)
    codes = _split(blocks[:, 48:], 4, 32) | _split(blocks[:, 16:48], 1, 32) << 4
    return _less(_scaled(codes.float(), scales), minima)


def _k_scales(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Scales and minima FP32 [blocks, 8] of Q4_K and Q5_K, whose codes have six bits and share twelve bytes.

    Those of the first four are in a byte each, which also has the two highest bits of one of the last four.
    """
    first, second, rest = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = torch.cat([first & 63, (rest & 15) | (first >> 6) << 4], dim=1)
    minima = torch.cat([second & 63, (rest >> 4) | (second >> 6) << 4], dim=1)
    return _halves(blocks, 0) * scales.float(), _halves(blocks, 2) * minima.float()


def _q6_k(blocks: Tensor) -> Tensor:
    codes = _split(blocks[:, :128], 4, 64) | _split(blocks[:, 128:192], 2, 32) << 4
    scales = _halves(blocks, 208) * blocks[:, 192:208].view(torch.int8).float()
    return _scaled(codes.float() - 32, scales)


def _iq4_nl(blocks: Tensor) -> Tensor:
    return _nonlinear(_split(blocks[:, 2:], 4, 16)) * _halves(blocks, 0)


def _iq4_xs(blocks: Tensor) -> Tensor:
    low, high = _split(blocks[:, 4:8], 4, 1), _split(blocks[:, 2:4], 2, 1)
    scales = _halves(blocks, 0) * ((low | high << 4).float() - 32)
    return _scaled(_nonlinear(_split(blocks[:, 8:], 4, 16)), scales)


def _nonlinear(codes: Tensor) -> Tensor:
    return _nonlinear_values(codes.device)[codes.int()]


@cache
def _nonlinear_values(device: torch.device) -> Tensor:
    """Kept, since the host would wait for each copy of it."""
    with torch.inference_mode(False):
        return torch.tensor(_NONLINEAR, dtype=torch.float32, device=device)


@cache
def _shifts(bits: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.arange(0, 8, bits, dtype=torch.uint8, device=device).view(1, 1, -1, 1)


def _less(numbers: Tensor, minima: Tensor) -> Tensor:
    """Numbers [blocks, n] less the minima [blocks, m] of n / m numbers each, in place."""
    numbers.view(len(numbers), minima.shape[1], -1).sub_(minima.unsqueeze(2))
    return numbers


_EXPANDED: Final[Mapping[str, Expand]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "IQ4_NL": _iq4_nl,
    "IQ4_XS": _iq4_xs,
}
