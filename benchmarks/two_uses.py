"""Measures a person's previews next to a batch: what the batch adds to them, and what it does meanwhile.

Everything runs on this machine over loopback, with a real daemon; README.md beside this file tells the method.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from batch_bench.measuring import FULL, QUICK, measure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from wire_bench.daemon import MODEL_ENGINE
from wire_bench.machine import command, machine_facts, versions
from wire_bench.report import Bar
from wire_bench.spread import Figure

_STEPPING = "batch_bench.stepping_engine:load"
_PARTS: dict[str, tuple[str, str, bool]] = {
    "batch": ("previews next to a batch", _STEPPING, True),
    "control": ("the same, where the batch does not give way", _STEPPING, False),
    "model": ("previews next to a batch, built-in model", MODEL_ENGINE, True),
}


def main() -> None:
    """Run the parts that were asked for, show a table, write JSON."""
    arguments = _arguments()
    plan = QUICK if arguments.quick else FULL
    console = Console(stderr=True)
    arguments.state.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "schema": 1,
        "benchmark": "two_uses",
        "quick": arguments.quick,
        "command": command(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine_facts(arguments.state),
        "versions": versions(),
    }
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        for name in arguments.parts:
            title, engine, preemptible = _PARTS[name]
            task = progress.add_task(title, total=plan.rounds)
            with tempfile.TemporaryDirectory(prefix="qied-two-uses-", dir=arguments.state) as folder:
                advance = partial(progress.advance, task)
                report[name] = measure(plan, Path(folder) / "home", engine, advance, preemptible=preemptible)
    report["bars"] = [bar.as_json() for bar in bars(report)]
    show(report, console)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def bars(report: dict[str, Any]) -> list[Bar]:
    """The bars of the parts that ran: the control has none."""
    return [
        Bar(_PARTS[name][0], "times alone, p95", Figure(**report[name]["ratio_p95"]), 1.5)
        for name in ("batch", "model")
        if name in report
    ]


def show(report: dict[str, Any], console: Console) -> None:
    """Print each part's ratios, and the bars."""
    table = Table("part", "p95 next to the batch, of alone", "p50", "batch edits a minute", title="two uses at once")
    for name in (each for each in _PARTS if each in report):
        part = report[name]
        rows = part["rounds"]
        pace = 60 * sum(row["batch_edits_meanwhile"] for row in rows) / sum(row["seconds"] for row in rows)
        ratios = [
            f"{part[ratio]['median']:.2f} ({part[ratio]['low']:.2f} to {part[ratio]['high']:.2f})"
            for ratio in ("ratio_p95", "ratio_p50")
        ]
        table.add_row(_PARTS[name][0], *ratios, f"{pace:.1f}")
    console.print(table)
    for bar in bars(report):
        console.print(f"{bar.name}: {'met' if bar.met else 'missed'}, below {bar.bar:g} {bar.unit}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure previews next to a batch.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--quick", action="store_true", help="a run of seconds that shows that everything works")
    parser.add_argument("--parts", nargs="+", choices=list(_PARTS), default=["batch", "control"], help="default: two")
    state = Path(tempfile.gettempdir())
    parser.add_argument("--state", type=Path, default=state, metavar="DIR", help="disk of the daemon's state")
    return parser.parse_args()


if __name__ == "__main__":
    main()
