"""The time that no forward can be below on a card: its arithmetic at the best rates that the card itself showed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from forward_bench.setting import SIZES, Setting

LINEAR_WEIGHTS = 113.25e6
"""Weights that one token of a block goes through: QKV, output, and both linears of the MLP."""
INNER, LAYERS = 3072, 60


def limits(figures: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds of each size in FP8 with attention in BF16, from the figures of the part ``ceilings``.

    Empty where no FP8 product or no attention was measured.
    """
    fp8 = max(_numbers(figures.get("gemm_tflops", {}).get("fp8", {})), default=0.0)
    attention = max(_numbers(figures.get("attention_tflops", {})), default=0.0)
    if not fp8 or not attention:
        return {}
    return {
        str(size): round(_linears(size_tokens) / fp8 + _attention(size_tokens) / attention, 1)
        for size, size_tokens in ((size, Setting().tokens(size)) for size in SIZES)
    }


def _linears(tokens: int) -> float:
    """Work of the linears in units of 1e9 operations: milliseconds at 1 TFLOP/s."""
    return 2 * tokens * LINEAR_WEIGHTS * LAYERS / 1e9


def _attention(tokens: int) -> float:
    return 4 * tokens**2 * INNER * LAYERS / 1e9


def _numbers(figures: Any) -> Iterator[float]:
    """All numbers in nested mappings; what went wrong is text and is passed over."""
    if isinstance(figures, Mapping):
        for each in figures.values():
            yield from _numbers(each)
    elif isinstance(figures, int | float):
        yield float(figures)
