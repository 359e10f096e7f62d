"""Makes GGUF's quantised blocks of numbers, with scales that are searched for: for tests and benchmarks.

The `gguf` package makes only the simple types. llama.cpp makes all, and searches for scales as well; its files and
these are alike in form and in error, not in their bits. Here each scale, and minimum, is the one of some candidates
that has the least sum of squared errors after it was fitted to the codes that it gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from qied.weights.gguf_types import BLOCKS

_NONLINEAR: Final = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""What the codes of IQ4 stand for, from ggml-common.h."""
_CANDIDATES: Final = 13
_WIDEST: Final = 1.15
"""The largest and smallest candidates are so many times the plain scale, or its inverse."""


def quantise_blocks(numbers: Tensor, kind: str) -> Tensor:
    """Rows of numbers [rows, inputs] as rows of blocks, uint8 [rows, bytes of a row]; ``kind`` as in a GGUF file."""
    block = BLOCKS[kind]
    blocks = _MAKE[kind](numbers.float().reshape(-1, block.numbers))
    assert blocks.shape[1] == block.nbytes
    return blocks.view(len(numbers), -1)


def _halves(scales: Tensor) -> Tensor:
    """Numbers [blocks] as the bytes of FP16, uint8 [blocks, 2]."""
    return scales.half().view(-1, 1).view(torch.uint8)


def _joined(codes: Tensor, bits: int, group: int) -> Tensor:
    """Codes of 1, 2 or 4 bits [blocks, n] as bytes: in each ``group`` of them first all lowest codes, then the next."""
    each = 8 // bits
    parts = codes.to(torch.uint8).view(len(codes), -1, each, group)
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8).view(1, 1, -1, 1)
    return (parts << shifts).sum(2, dtype=torch.uint8).view(len(codes), -1)


def _inverse(scales: Tensor) -> Tensor:
    """One over each scale; 0 for 0, of which all codes are 0."""
    return torch.where(scales == 0, 0.0, 1 / scales)


def _codes(x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    return (x * _inverse(scale)).round().clamp(low, high)


def _symmetric(x: Tensor, low: int, high: int) -> Tensor:
    """The scale [...] of numbers [..., n] that are codes from ``low`` to ``high`` times it; it may be negative."""
    at = x.abs().argmax(-1, keepdim=True)
    plain = x.gather(-1, at).squeeze(-1) / low
    best, scale = torch.full_like(plain, torch.inf), plain
    for factor in torch.linspace(1 / _WIDEST, _WIDEST, _CANDIDATES).tolist():
        codes = _codes(x, (plain * factor).unsqueeze(-1), low, high)
        fitted = (x * codes).sum(-1) * _inverse((codes * codes).sum(-1))
        error = (x - fitted.unsqueeze(-1) * codes).square().sum(-1)
        scale = torch.where(error < best, fitted, scale)
        best = torch.minimum(error, best)
    return scale


def _with_minimum(x: Tensor, high: int) -> tuple[Tensor, Tensor]:
    """Scale and minimum, neither negative, [...] of numbers [..., n]: codes up to ``high`` times the scale, less it."""
    least = x.amin(-1).clamp(max=0)
    plain = (x.amax(-1) - least) / high
    best, scale, minimum = torch.full_like(plain, torch.inf), plain, -least
    count = x.shape[-1]
    for factor in torch.linspace(1 / _WIDEST, 1.05, _CANDIDATES).tolist():
        codes = _codes(x - least.unsqueeze(-1), (plain * factor).unsqueeze(-1), 0, high)
        total, squares = codes.sum(-1), codes.square().sum(-1)
        slope = (count * (x * codes).sum(-1) - x.sum(-1) * total) * _inverse(count * squares - total * total)
        offset = (x.sum(-1) - slope * total) / count
        # Where the line would have to start above 0, the best that may start there goes through it.
        through = (x * codes).sum(-1) * _inverse(squares)
        slope, offset = torch.where(offset > 0, through, slope), offset.clamp(max=0)
        error = (x - slope.unsqueeze(-1) * codes - offset.unsqueeze(-1)).square().sum(-1)
        better = (error < best) & (slope >= 0)
        scale, minimum = torch.where(better, slope, scale), torch.where(better, -offset, minimum)
        best = torch.where(better, error, best)
    return scale, minimum


def _whole(scales: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Scales [blocks, n] as whole numbers from ``low`` to ``high``, and what they are multiplied by, [blocks]."""
    extreme = scales.gather(1, scales.abs().argmax(1, keepdim=True)).squeeze(1) / (low or high)
    extreme = extreme.half().float()
    return _codes(scales, extreme.unsqueeze(1), low, high), extreme


def _q8_0(x: Tensor) -> Tensor:
    scale = (x.abs().amax(1) / 127).half().float()
    codes = _codes(x, scale.unsqueeze(1), -127, 127)
    return torch.cat([_halves(scale), codes.to(torch.int8).view(torch.uint8)], 1)


def _q4_0(x: Tensor) -> Tensor:
    scale = _symmetric(x, -8, 7).half().float()
    return torch.cat([_halves(scale), _joined(_codes(x, scale.unsqueeze(1), -8, 7) + 8, 4, 16)], 1)


def _q4_1(x: Tensor) -> Tensor:
    scale, least = _ranges(x, 15)
    return torch.cat([_halves(scale), _halves(least), _joined(_above(x, scale, least, 15), 4, 16)], 1)


def _q5_0(x: Tensor) -> Tensor:
    scale = _symmetric(x, -16, 15).half().float()
    codes = (_codes(x, scale.unsqueeze(1), -16, 15) + 16).to(torch.uint8)
    return torch.cat([_halves(scale), _joined(codes >> 4, 1, 1), _joined(codes & 15, 4, 16)], 1)


def _q5_1(x: Tensor) -> Tensor:
    scale, least = _ranges(x, 31)
    codes = _above(x, scale, least, 31).to(torch.uint8)
    return torch.cat([_halves(scale), _halves(least), _joined(codes >> 4, 1, 1), _joined(codes & 15, 4, 16)], 1)


def _ranges(x: Tensor, high: int) -> tuple[Tensor, Tensor]:
    """Scale and smallest number of blocks whose minimum may be of either sign."""
    return ((x.amax(1) - x.amin(1)) / high).half().float(), x.amin(1).half().float()


def _above(x: Tensor, scale: Tensor, least: Tensor, high: int) -> Tensor:
    return _codes(x - least.unsqueeze(1), scale.unsqueeze(1), 0, high)


def _q2_k(x: Tensor) -> Tensor:
    parts = x.view(len(x), 16, 16)
    scales, minima, scale, minimum = _whole_ranges(parts, 3, 15)
    codes = _codes_above(parts, scales, minima, scale, minimum, 3)
    factors = (scales.to(torch.uint8) | minima.to(torch.uint8) << 4).view(len(x), 16)
    return torch.cat([factors, _joined(codes, 2, 32), _halves(scale), _halves(minimum)], 1)


def _q3_k(x: Tensor) -> Tensor:
    parts = x.view(len(x), 16, 16)
    scales, scale = _whole(_symmetric(parts, -4, 3), -32, 31)
    codes = _codes(parts, (scales * scale.unsqueeze(1)).unsqueeze(2), -4, 3).view(len(x), 256)
    kept, factors = (codes + 4).to(torch.uint8), (scales + 32).to(torch.uint8)
    packed = torch.cat([_joined(factors & 15, 4, 8), _joined(factors >> 4, 2, 4)], 1)
    return torch.cat([_joined(kept >> 2, 1, 32), _joined(kept & 3, 2, 32), packed, _halves(scale)], 1)


def _q4_k(x: Tensor) -> Tensor:
    head, codes = _k_ranges(x, 15)
    return torch.cat([head, _joined(codes, 4, 32)], 1)


def _q5_k(x: Tensor) -> Tensor:
    head, codes = _k_ranges(x, 31)
    return torch.cat([head, _joined(codes >> 4, 1, 32), _joined(codes & 15, 4, 32)], 1)


def _k_ranges(x: Tensor, high: int) -> tuple[Tensor, Tensor]:
    """The 16 bytes of scales and minima of Q4_K and Q5_K, and codes uint8 [blocks, 256]."""
    parts = x.view(len(x), 8, 32)
    scales, minima, scale, minimum = _whole_ranges(parts, high, 63)
    codes = _codes_above(parts, scales, minima, scale, minimum, high).to(torch.uint8)
    scales, minima = scales.to(torch.uint8), minima.to(torch.uint8)
    first = scales[:, :4] | scales[:, 4:] >> 4 << 6
    second = minima[:, :4] | minima[:, 4:] >> 4 << 6
    rest = scales[:, 4:] & 15 | (minima[:, 4:] & 15) << 4
    return torch.cat([_halves(scale), _halves(minimum), first, second, rest], 1), codes


def _whole_ranges(parts: Tensor, high: int, most: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scales and minima of parts [blocks, m, n] as whole numbers [blocks, m], and what each is multiplied by."""
    scales, minima = _with_minimum(parts, high)
    wholes, scale = _whole(scales, 0, most)
    least, minimum = _whole(minima, 0, most)
    return wholes, least, scale, minimum


def _codes_above(parts: Tensor, scales: Tensor, minima: Tensor, scale: Tensor, minimum: Tensor, high: int) -> Tensor:
    raised = parts + (minima * minimum.unsqueeze(1)).unsqueeze(2)
    return _codes(raised, (scales * scale.unsqueeze(1)).unsqueeze(2), 0, high).view(len(parts), -1)


def _q6_k(x: Tensor) -> Tensor:
    parts = x.view(len(x), 16, 16)
    scales, scale = _whole(_symmetric(parts, -32, 31), -128, 127)
    codes = _codes(parts, (scales * scale.unsqueeze(1)).unsqueeze(2), -32, 31).view(len(x), 256)
    kept, factors = (codes + 32).to(torch.uint8), scales.to(torch.int8).view(torch.uint8)
    return torch.cat([_joined(kept & 15, 4, 64), _joined(kept >> 4, 2, 32), factors, _halves(scale)], 1)


def _iq4_nl(x: Tensor) -> Tensor:
    scale = _nonlinear_scale(x).half().float()
    return torch.cat([_halves(scale), _joined(_nearest(x * _inverse(scale).unsqueeze(1)), 4, 16)], 1)


def _iq4_xs(x: Tensor) -> Tensor:
    parts = x.view(len(x), 8, 32)
    scales, scale = _whole(_nonlinear_scale(parts), -32, 31)
    codes = _nearest(parts * _inverse(scales * scale.unsqueeze(1)).unsqueeze(2)).view(len(x), 256)
    factors = (scales + 32).to(torch.uint8)
    return torch.cat(
        [_halves(scale), _joined(factors >> 4, 2, 1), _joined(factors & 15, 4, 1), _joined(codes, 4, 16)], 1
    )


def _nonlinear_scale(x: Tensor) -> Tensor:
    """The scale [...] of numbers [..., n] that are one of ``_NONLINEAR`` times it."""
    values = torch.tensor(_NONLINEAR, dtype=torch.float32)
    plain = x.gather(-1, x.abs().argmax(-1, keepdim=True)).squeeze(-1) / values[0]
    best, scale = torch.full_like(plain, torch.inf), plain
    for factor in torch.linspace(1 / _WIDEST, _WIDEST, _CANDIDATES).tolist():
        meant = values[_nearest(x * _inverse(plain * factor).unsqueeze(-1)).int()]
        fitted = (x * meant).sum(-1) / meant.square().sum(-1)
        error = (x - fitted.unsqueeze(-1) * meant).square().sum(-1)
        scale = torch.where(error < best, fitted, scale)
        best = torch.minimum(error, best)
    return scale


def _nearest(x: Tensor) -> Tensor:
    """The codes of the nearest of ``_NONLINEAR``, uint8."""
    values = torch.tensor(_NONLINEAR, dtype=torch.float32)
    return torch.bucketize(x, (values[1:] + values[:-1]) / 2).to(torch.uint8)


_MAKE: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {
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
