"""Kernels of a forward put together by what they do, as far as their names tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

GROUPS = (
    ("attention", r"sdpa|fmha|flash|attention|attend"),
    ("matrix products", r"gemm|nvjet|cutlass|scaled_mm|xmma|cublas|addmm|aten::mm|gemv|matmul|splitK"),
    ("rope and norms of heads", r"rope|rotat|heads_kernel|rotary|rms|complex"),
    (
        "norms, modulation, quantisation",
        r"norm|quant|modulat|gelu|activ|gate|residual|amax|reduce|input_kernel|expand_kernel|largest_value",
    ),
    ("copies", r"memcpy|memset|copy|CatArray|aten::cat"),
)
"""Groups of kernels by what their names contain, the first that fits; everything else is ``other``."""
OTHER, GAPS = "other", "gaps"


def grouped(found: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds of each group of kernels in a summary, and of the gaps.

    They add up to the span where kernels do not overlap.
    """
    times = {name: 0.0 for name, _ in GROUPS} | {OTHER: 0.0}
    for kernel in found["kernels"]:
        fits = (name for name, pattern in GROUPS if re.search(pattern, kernel["name"], re.IGNORECASE))
        times[next(fits, OTHER)] += kernel["ms"]
    return {**{name: round(time, 3) for name, time in times.items()}, GAPS: found["gaps_ms"]}
