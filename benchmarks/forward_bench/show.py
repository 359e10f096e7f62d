"""The figures of a run as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from part_runs.bar import figure, show_bars
from rich.console import Console
from rich.table import Table

from forward_bench.groups import grouped
from forward_bench.limits import limits
from forward_bench.setting import GB, MIDDLE, NATIVE, SIZES

MODELS = {
    "diffusers": "diffusers BF16, eager",
    "compiled": "diffusers BF16, compiled blocks",
    "compiled-graphs": "diffusers BF16, compiled, CUDA graphs",
    "compiled-autotune": "diffusers BF16, compiled, max-autotune",
    "torchao": "diffusers + torchao FP8, compiled blocks",
    "bf16": "qied BF16",
    "fp8-storage": "qied FP8 storage",
    "int8": "qied INT8, attention in 16 bits",
    "int8-attention": "qied INT8, attention in FP8",
    "fp8": "qied FP8, attention in 16 bits",
    "fp8-attention": "qied FP8",
}
"""Parts that measure a whole forward, by what people call them."""


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print milliseconds, streaming, what costs what, and the bars."""
    parts: Mapping[str, Any] = report["parts"]
    _show_speed(parts, console)
    if "streaming" in parts:
        _show_streaming(parts["streaming"]["figures"], console)
    for name in ("breakdown", "breakdown-eager"):
        _show_breakdown(parts.get(name), name, console)
    for name, part in parts.items():
        if part["error"]:
            console.print(f"[red]{name}[/]: {part['error']}", highlight=False)
    show_bars(report["bars"], console)


def _show_speed(parts: Mapping[str, Any], console: Console) -> None:
    table = Table("one forward, ms", *map(str, SIZES), "first calls at 1024/1024", "weights", "peak above them")
    if found := limits(figure(parts, "ceilings", "figures") or {}):
        table.add_row("limit of this card, FP8", *(f"{found[str(size)]:.0f}" for size in SIZES), "", "", "")
    for name, title in MODELS.items():
        if (figures := figure(parts, name, "figures")) is None:
            continue
        times = [_number(figure(figures, "sizes", str(size), "ms")) for size in SIZES]
        first = figure(figures, "sizes", NATIVE, "first_ms")
        weights, peak = figure(figures, "weights", "bytes"), figure(figures, "sizes", NATIVE, "peak_reserved_bytes")
        firsts = "-" if first is None else " ".join(f"{each:.0f}" for each in first)
        table.add_row(title, *times, firsts, _gigabytes(weights), _gigabytes(peak))
    console.print(table)


def _show_streaming(figures: Mapping[str, Any], console: Console) -> None:
    table = Table("weights on the card", "resident blocks", "768/768, ms", "1024/1024, ms", "four in one sweep, ms")
    for name in figures:
        if (row := figure(figures, name)) is None:
            table.add_row(name, figures[name]["error"][:60], "", "", "")
            continue
        several = " ".join(f"{each:.0f}" for each in row.get("several_ms", {}).values())
        times = (f"{row['ms'][size]:.1f}" for size in (MIDDLE, NATIVE))
        table.add_row(_gigabytes(row["weights_bytes"]), str(row["resident"]), *times, several)
    console.print(table)


def _show_breakdown(part: Mapping[str, Any] | None, name: str, console: Console) -> None:
    for precision, sizes in (part or {"figures": {}})["figures"].items():
        for size, found in (sizes if name == "breakdown" else {precision: sizes}).items():
            if not isinstance(found, Mapping) or "kernels" not in found:
                continue
            parts = ", ".join(f"{group} {ms:.1f}" for group, ms in grouped(found).items())
            console.print(
                f"{name} {precision} {size}: {found['span_ms']:.1f} ms, {found['launches']} launches: {parts}"
            )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _gigabytes(nbytes: int | None) -> str:
    return "-" if nbytes is None else f"{nbytes / GB:.2f} GB"
