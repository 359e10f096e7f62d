"""The figures of a run as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from part_runs.bar import figure, show_bars
from rich.console import Console
from rich.table import Table

from serve_bench.bars import PREVIEW, UNLOAD, peak_bytes
from serve_bench.parts import ENGINE_PHASES
from serve_bench.setting import GB


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print edits within budgets, the preview, and the bars."""
    parts: Mapping[str, Any] = report["parts"]
    table = Table("edit", "size", "steps", "s", "ms a step", *ENGINE_PHASES, "peak", "predicted", "budget")
    for name, part in parts.items():
        for which, plan in (("budget", "plan"), ("resident", "resident_plan")):
            if (edit := figure(part["figures"], which)) is not None:
                table.add_row(*_row(f"{name}, {which}", edit, figure(part["figures"], plan)))
    console.print(table)
    if (found := figure(parts, PREVIEW, "figures", "breakdown")) is not None:
        spent = ", ".join(f"{name} {ms:.0f}" for name, ms in found.items())
        console.print(f"preview: {parts[PREVIEW]['figures']['ms']:.0f} ms: {spent}")
    if (left := figure(parts, UNLOAD, "figures", "left_bytes")) is not None:
        spent = parts[UNLOAD]["figures"]
        console.print(
            f"unload: {_gigabytes(spent['held_bytes'])} freed in {spent['freed_ms']:.0f} ms, {_gigabytes(left)} left; "
            f"start {spent['start_ms'] / 1000:.1f} s, edit {spent['warm']['ms'] / 1000:.1f} s, "
            f"edit that brings it back {spent['back']['ms'] / 1000:.1f} s"
        )
    for name, part in parts.items():
        if part["error"]:
            console.print(f"[red]{name}[/]: {part['error']}", highlight=False)
    show_bars(report["bars"], console)


def _row(name: str, edit: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    phases = [f"{edit['phases'].get(phase, 0.0):.0f}" for phase in ENGINE_PHASES]
    size, seconds = f"{edit['width']}x{edit['height']}", f"{edit['ms'] / 1000:.1f}"
    sizes = (peak_bytes(edit["memory"]), plan["peak_bytes"], plan["budget_bytes"])
    return [name, size, str(edit["steps"]), seconds, f"{edit['step_ms']:.1f}", *phases, *map(_gigabytes, sizes)]


def _gigabytes(nbytes: int | None) -> str:
    return "-" if nbytes is None else f"{nbytes / GB:.2f} GB"
