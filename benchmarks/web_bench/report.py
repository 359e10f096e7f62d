"""The figures against their bars, as a table."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from wire_bench.report import Bar
from wire_bench.spread import Figure

MB = 1_000_000
MIB = 1024 * 1024


def bars(report: dict[str, Any]) -> list[Bar]:
    """The bars of the parts that ran."""
    found: list[Bar] = []
    if pages := report.get("pages"):
        peak = pages["rss_peak_bytes"] / MB
        found += [
            Bar("news at the page after the Python client, p99", "ms", Figure(**pages["event_p99_ms"]), 100),
            Bar("a small request beside it, p99", "ms", Figure(**pages["health_p99_ms"]), 100),
            Bar("the gateway's memory, peak", "MB", Figure.of([peak]), 200),
        ]
    if upload := report.get("upload"):
        size = upload["bytes"] / MIB
        found.append(
            Bar(
                f"a small request beside an upload of {size:.0f} MiB, p99", "ms", Figure(**upload["health_p99_ms"]), 100
            )
        )
    if edit := report.get("edit"):
        found += [
            Bar("what the gateway adds to an edit", "ms", Figure(**edit["added_ms"]), 15),
            Bar("the same over a new connection", "ms", Figure(**edit["added_new_ms"]), 15),
        ]
    return found


def show(report: dict[str, Any], console: Console) -> None:
    """Print the bars."""
    table = Table("figure", "median of rounds (lowest to highest)", "bar", "", title="the web gateway")
    for bar in bars(report):
        met = "[green]met[/]" if bar.met else "[red]missed[/]"
        table.add_row(bar.name, f"{bar.figure} {bar.unit}", f"< {bar.bar:g} {bar.unit}", met)
    console.print(table)
    rounds = [row for part in ("pages", "upload", "edit") for row in report.get(part, {}).get("rounds", [])]
    busy = max((row["other_cores"] for row in rounds), default=0.0)
    console.print(f"Other programs kept up to {busy:g} of {report['machine']['cores']} cores busy during a round.")
