"""Time and error of a kernel: medians of repeated runs, relative errors against FP32, and the limits of both."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from qied.hardware.snapshot import Trial

ERROR_LIMITS = {"bf16": 0.01, "fp8_storage": 0.05, "fp8": 0.06, "int8": 0.03, "attention": 0.02, "fp8_attention": 0.1}
"""Largest relative errors of right kernels, with room: BF16 keeps 8 bits of a number and gives about 0.002; E4M3 keeps
4 and gives 0.027 where the weight is FP8, 0.037 where both factors are, 0.064 in an attention all in FP8. INT8 gives
0.012 where rows are rotated."""

SLOWER_BY = 1.02
"""A mode counts as slower from this ratio of times on; below, it is noise."""

_ROUNDS = 7
_ROUND_S = 0.01
_MOST_RUNS = 32


class Clock(Protocol):
    """Measures what a device does."""

    def __call__(self, work: Callable[[], object], runs: int) -> float:
        """Seconds that ``runs`` calls of ``work`` take until the device is done."""


def clock_of(device: torch.device) -> Clock:
    """CUDA events for a card, the wall clock for the CPU."""
    return _card_clock if device.type == "cuda" else _wall_clock


def median_seconds(clock: Clock, *works: Callable[[], object]) -> tuple[float, ...]:
    """Median seconds of one call of each work. Rounds alternate, so whatever else the device does meets all alike."""
    runs = []
    for work in works:
        clock(work, 1)
        runs.append(max(1, min(_MOST_RUNS, int(_ROUND_S / max(clock(work, 1), 1e-9)))))
    rounds = [[clock(work, number) / number for work, number in zip(works, runs, strict=True)] for _ in range(_ROUNDS)]
    return tuple(statistics.median(times) for times in zip(*rounds, strict=True))


def relative_error(result: Tensor, reference: Tensor, weights: Tensor | None = None) -> float:
    """Frobenius norm of the difference over that of ``reference``, in FP32.

    ``weights``, of a shape that broadcasts, divides both first: so rows and columns of small numbers count as much.
    """
    scale = torch.ones((), device=reference.device) if weights is None else weights
    difference = (result.float() - reference) / scale
    return float(difference.norm() / (reference / scale).norm())


def judged(
    error: float,
    limit: float,
    operations: float,
    seconds: float,
    reference_s: float | None = None,
    slower_by: float = SLOWER_BY,
) -> Trial:
    """The trial's answer: wrong beyond ``limit``, slow where it takes ``slower_by`` times ``reference_s`` of BF16.

    ``operations`` are floating-point ones of one call, ``seconds`` the time of one.
    """
    tflops = float(f"{operations / seconds / 1e12:.4g}")
    if not math.isfinite(error):
        return Trial(ok=False, tflops=tflops, error="the result is not finite")
    rounded = round(error, 6)
    if error > limit:
        reason = f"wrong result: relative error {error:.3g} against FP32, at most {limit:g} is allowed"
        return Trial(ok=False, tflops=tflops, relative_error=rounded, error=reason)
    if reference_s is not None and seconds > reference_s * slower_by:
        times = f"{seconds * 1e3:.3g} ms against {reference_s * 1e3:.3g} ms"
        reason = f"slower than BF16: {seconds / reference_s:.2f} times its time ({times})"
        return Trial(ok=False, tflops=tflops, relative_error=rounded, error=reason)
    return Trial(ok=True, tflops=tflops, relative_error=rounded)


def _card_clock(work: Callable[[], object], runs: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(runs):
        work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def _wall_clock(work: Callable[[], object], runs: int) -> float:
    start = time.perf_counter()
    for _ in range(runs):
        work()
    return time.perf_counter() - start
