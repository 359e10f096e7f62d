"""The figures of a run as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from part_runs.bar import figure, show_bars
from rich.console import Console
from rich.table import Table

from vae_bench.bars import WAYS
from vae_bench.setting import SIDES

GB = 1e9


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print times and peaks, errors, and the bars."""
    parts: Mapping[str, Any] = report["parts"]
    table = Table("encode / decode", *(f"{side}, ms" for side in SIDES), *(f"{side}, GB" for side in SIDES))
    for name, how, cells in rows(parts):
        table.add_row(f"{name}, {how}", *cells)
    console.print(table)
    for name, found in (figure(parts, "differences", "figures") or {}).items():
        console.print(f"{name}: {found}", highlight=False)
    for name, part in parts.items():
        if part["error"]:
            console.print(f"[red]{name}[/]: {part['error']}", highlight=False)
    show_bars(report["bars"], console)


def rows(parts: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """Who, how, and the cells of milliseconds and of peaks at each side."""
    for part, name in (("diffusers", "diffusers BF16"), ("ours", "qied BF16")):
        for how, sides in (figure(parts, part, "figures") or {}).items():
            times = [_both(sides, side, "ms", 1.0, 0) for side in SIDES]
            yield name, how, times + [_both(sides, side, "peak_tensors_bytes", GB, 1) for side in SIDES]


def _both(sides: Mapping[str, Any], side: int, key: str, unit: float, digits: int) -> str:
    found = [figure(sides, str(side), way, key) for way in WAYS]
    return "-" if None in found else " / ".join(f"{value / unit:.{digits}f}" for value in found)
