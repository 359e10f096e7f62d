"""Measures the web gateway: open pages beside edits that stream pictures, large uploads, and what it adds to one edit.

Everything runs on this machine over loopback, with a real daemon and a real gateway; README.md beside this file tells
the method.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from web_bench.parts import measure_edit, measure_pages, measure_uploads
from web_bench.plan import FULL, QUICK, Plan
from web_bench.report import bars, show
from wire_bench.machine import command, machine_facts, versions

_PARTS: dict[str, tuple[str, Callable[[Plan, Path, Callable[[], None]], dict[str, Any]]]] = {
    "pages": ("open pages beside edits", measure_pages),
    "upload": ("large uploads beside small requests", measure_uploads),
    "edit": ("one edit, Python client and gateway", measure_edit),
}


def main() -> None:
    """Run the parts that were asked for, show a table, write JSON."""
    arguments = _arguments()
    plan = QUICK if arguments.quick else FULL
    console = Console(stderr=True)
    arguments.state.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "schema": 1,
        "benchmark": "web",
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
            title, measure = _PARTS[name]
            task = progress.add_task(title, total=plan.rounds)
            with tempfile.TemporaryDirectory(prefix="qied-web-", dir=arguments.state) as folder:
                report[name] = measure(plan, Path(folder) / "home", partial(progress.advance, task))
    report["bars"] = [bar.as_json() for bar in bars(report)]
    show(report, console)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the web gateway.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--quick", action="store_true", help="a run of seconds that shows that everything works")
    parser.add_argument("--parts", nargs="+", choices=list(_PARTS), default=list(_PARTS), help="default: all")
    state = Path(tempfile.gettempdir())
    parser.add_argument("--state", type=Path, default=state, metavar="DIR", help="disk of the daemon's state")
    return parser.parse_args()


if __name__ == "__main__":
    main()
