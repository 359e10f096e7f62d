"""What the VAE has to reach, each with what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from part_runs.bar import Bar, Parts, figure, ratio

WAYS = ("encode", "decode")
WHOLE = "whole"


def judged(parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every bar with its value and whether it is met, None where it was not measured."""
    return [bar.judged(parts) for bar in BARS]


def _time(side: str, way: str) -> Callable[[Parts], float | None]:
    def measure(parts: Parts) -> float | None:
        return ratio(*(figure(parts[part], WHOLE, side, way, "ms") for part in ("ours", "diffusers")))

    return measure


def _error(parts: Parts) -> float | None:
    """The error to FP32 over that of diffusers in BF16, the larger one of both ways."""
    errors = [figure(parts["differences"], "errors", way) for way in WAYS]
    if None in errors:
        return None
    return max(each["to_fp32"] / each["of_diffusers_bf16_to_fp32"] for each in errors)


def _tiles(parts: Parts) -> float | None:
    """The least PSNR of any tiled result to the whole one."""
    found = figure(parts["differences"], "tiles") or {}
    return min((each[way] for name, each in found.items() if name.startswith("tiles") for way in WAYS), default=None)


BARS = (
    *(
        Bar(f"{way} over diffusers, {side}", 0.7, "x", ("ours", "diffusers"), _time(side, way), True)
        for side in ("1024", "2048")
        for way in WAYS
    ),
    Bar("error to FP32 over that of diffusers", 1.1, "x", ("differences",), _error, True),
    Bar("tiles to the whole, a real picture", 45.0, "dB", ("differences",), _tiles),
)
