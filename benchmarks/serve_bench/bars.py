"""What whole edits have to reach, each with what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from part_runs.bar import Bar, Parts, figure, ratio

from serve_bench.setting import EIGHT, SIX

PREVIEW = "preview"
UNLOAD = "unload"


def judged(parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every bar with its value and whether it is met, None where it was not measured."""
    return [bar.judged(parts) for bar in BARS]


def peak_bytes(memory: Mapping[str, int] | None) -> int | None:
    """Most bytes of the card that a worker had, from its beginning to the end of an edit."""
    return None if memory is None else max(memory["reserved"], memory["reserved_before"]) + memory["beside"]


def _speed(part: str) -> Callable[[Parts], float | None]:
    def measure(parts: Parts) -> float | None:
        return ratio(*(figure(parts[part], which, "step_ms") for which in ("resident", "budget")))

    return measure


def _over_budget(part: str) -> Callable[[Parts], float | None]:
    def measure(parts: Parts) -> float | None:
        peak = peak_bytes(figure(parts[part], "budget", "memory"))
        return ratio(peak, figure(parts[part], "plan", "budget_bytes"))

    return measure


def _over_predicted(part: str) -> Callable[[Parts], float | None]:
    """The peak of the edit by itself, since the plan predicts nothing of loading, over that of the plan."""

    def measure(parts: Parts) -> float | None:
        memory = figure(parts[part], "budget", "memory")
        peak = None if memory is None else memory["reserved"] + memory["beside"]
        return ratio(peak, figure(parts[part], "plan", "peak_bytes"))

    return measure


def _preview(parts: Parts) -> float | None:
    found: float | None = figure(parts[PREVIEW], "ms")
    return found


def _freed(parts: Parts) -> float | None:
    found: float | None = figure(parts[UNLOAD], "freed_ms")
    return found


def _back(parts: Parts) -> float | None:
    """How long the edit that brought the model back waited for it, over the start of the whole daemon."""
    back, warm = (figure(parts[UNLOAD], which, "ms") for which in ("back", "warm"))
    return None if back is None or warm is None else ratio(back - warm, figure(parts[UNLOAD], "start_ms"))


BARS = (
    *(
        bar
        for part in (EIGHT, SIX)
        for bar in (
            Bar(f"speed of steps in {part} over resident", 0.9, "share", (part,), _speed(part)),
            Bar(f"peak in {part} over the budget", 1.0, "share", (part,), _over_budget(part), True),
            Bar(f"peak in {part} over the predicted one", 1.0, "share", (part,), _over_predicted(part), True),
        )
    ),
    Bar("preview of four steps, request to PNG", 1200.0, "ms", (PREVIEW,), _preview, True),
    Bar("memory free after unloading", 5000.0, "ms", (UNLOAD,), _freed, True),
    Bar("model brought back by an edit, over a start", 1.0, "share", (UNLOAD,), _back, True),
)
