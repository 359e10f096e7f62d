"""The figures of a run as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from part_runs.bar import figure, show_bars
from rich.console import Console
from rich.table import Table

from shop_bench.setting import NIGHT


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print seconds a picture beside the model's own steps, and the bars."""
    pictures = figure(report["parts"], NIGHT, "figures", "pictures")
    if pictures is not None:
        table = Table("a picture", "ms")
        table.add_row("all of it, by the clock", f"{1000 * pictures['seconds_each_warm']:.0f}")
        for phase, spent in pictures["phases_ms"].items():
            table.add_row(phase.removesuffix("_ms"), f"{spent:.0f}")
        console.print(table)
    show_bars(report["bars"], console)
