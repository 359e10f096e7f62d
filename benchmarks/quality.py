"""Measures how well the built-in model edits, and what FP8, few steps, guidance and LoRAs change about it.

README.md beside this file tells the method, ``docs/quality.md`` what came out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quality_bench import rows
from quality_bench.page import write_page
from quality_bench.plot import plot
from quality_bench.tables import show
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from qied.hardware.probe import probe
from qied.hardware.snapshot import Snapshot
from qied.planning.profiles.model_profile import ModelProfile, shipped_profiles
from qied.resources import builtin_loras_folder, builtin_model_folder


def main() -> int:
    """Run the chosen rows, show tables, write what was asked for; returns the exit status."""
    profile = shipped_profiles()["builtin"]
    arguments = _arguments(profile)
    if arguments.page:
        return write_page(check=arguments.check)
    report: dict[str, Any] | None = None
    for report in _reports(arguments, profile):
        # After each row, so that a run that is ended leaves what it has found.
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if report is None:
        print("Nothing was run: none of the chosen rows can run here.", file=sys.stderr)
        return 2
    show(report, Console())
    if arguments.plot is not None:
        plot(report).save(arguments.plot, optimize=True)
    return 0


def _arguments(profile: ModelProfile) -> argparse.Namespace:
    names = [*(row.name for row in (*rows.rows(profile), *rows.text_rows(profile))), rows.VAE, rows.TEXT]
    parser = argparse.ArgumentParser(description="Measure the quality of the built-in model's edits.")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--only", nargs="+", metavar="ROW", choices=names, help=f"of: {', '.join(names)}")
    parser.add_argument("--limit", type=int, metavar="N", help="N edits of the set, evenly over the tasks")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: by device and cores)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write a contact sheet of the main row there (PNG)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a plot there (PNG)")
    parser.add_argument("--model", type=Path, metavar="FOLDER", default=builtin_model_folder())
    parser.add_argument("--loras", type=Path, metavar="FOLDER", default=builtin_loras_folder())
    parser.add_argument("--page", action="store_true", help="measure nothing: write docs/quality.md from the results")
    parser.add_argument("--check", action="store_true", help="with --page: only compare")
    found = parser.parse_args()
    for name in ("limit", "workers"):
        if (value := getattr(found, name)) is not None and value < 1:
            parser.error(f"--{name} {value}: at least 1")
    return found


def _reports(arguments: argparse.Namespace, profile: ModelProfile) -> Iterator[dict[str, Any]]:
    """Run the rows: the report so far after each of them; the sheet is written on the way, as it needs the pictures."""
    # Only here, so that --page needs no torch.
    from quality_bench.engines import Model
    from quality_bench.report import choose, run_all, whole_report
    from quality_bench.sheet import sheet, shown_edits
    from quality_bench.workers import Workers, workers_for

    started, snapshot = time.time(), probe(os.environ)
    device = _device(arguments.device, snapshot)
    model = Model(arguments.model, arguments.loras, profile, device)
    chosen = choose(model, arguments.only, arguments.limit)
    keep = shown_edits(arguments.limit) if arguments.sheet is not None else frozenset()
    count = arguments.workers or workers_for(device, snapshot.host.cpu_count or 1)
    console = Console(stderr=True)
    for note in chosen.notes:
        console.print(note)
    with Progress(*_columns(), console=console, transient=True) as progress, Workers(model, count) as workers:
        bar = progress.add_task("", total=chosen.forwards())

        def on_work(row: str, forwards: int) -> None:
            progress.update(bar, advance=forwards, description=row)

        for figures, row in run_all(model, chosen, workers, keep, on_work):
            if arguments.sheet is not None and row is not None and row.row.name == rows.MAIN:
                sheet(row).save(arguments.sheet, optimize=True)
            yield whole_report(model, chosen, figures, snapshot, started)


def _device(asked: str, snapshot: Snapshot) -> str:
    """The device as torch names it; ``auto`` takes a card where the driver shows one and torch was built for it."""
    if asked != "auto":
        return asked
    return "cuda" if snapshot.gpus and snapshot.torch is not None and snapshot.torch.cuda is not None else "cpu"


def _columns() -> tuple[ProgressColumn, ...]:
    text = TextColumn("{task.description:26}")
    return SpinnerColumn(), text, BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()


if __name__ == "__main__":
    sys.exit(main())
