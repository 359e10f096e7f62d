"""What a shop's night has to reach, each with what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from part_runs.bar import Bar, Parts, figure, ratio

from shop_bench.setting import NIGHT


def judged(parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every bar with its value and whether it is met, None where it was not measured."""
    return [bar.judged(parts) for bar in BARS]


def _files(parts: Parts) -> float | None:
    return ratio(*(figure(parts[NIGHT], "files", name) for name in ("right", "wanted")))


def _over_budget(parts: Parts) -> float | None:
    night = parts[NIGHT]
    return ratio(figure(night, "memory", "peak_bytes"), figure(night, "plan", "budget_bytes"))


def _growth(parts: Parts) -> float | None:
    memory = figure(parts[NIGHT], "memory")
    return ratio(*(figure(memory, f"host_{half}_half_bytes") for half in ("second", "first")))


BARS = (
    Bar("right files, of all that there should be", 1.0, "share", (NIGHT,), _files),
    Bar("peak on the card over the budget", 1.0, "share", (NIGHT,), _over_budget, True),
    Bar("worker's memory in the second half over the first", 1.05, "share", (NIGHT,), _growth, True),
)
