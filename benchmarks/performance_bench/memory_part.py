"""What is said of memory: predicted peaks of whole edits over measured ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quality_bench.tables import Table

from performance_bench.reports import NOT_MEASURED, RESULTS

GB = 1e9


def read(folder: Path | None = None, name: str = "memory") -> Mapping[str, Any] | None:
    """The results of ``memory.py`` under this name, or None where it has not run."""
    file = (folder or RESULTS) / f"{name}.json"
    found: Mapping[str, Any] | None = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    return found


def markdown(folder: Path | None = None) -> str:
    """The part of the page."""
    report, stored = read(folder), read(folder, "memory-gguf")
    if report is None:
        return f"{NOT_MEASURED}\n"
    found = f"{_head(report)}\n{table(report).markdown()}"
    return found if stored is None else f"{found}\n{_head(stored)}\n{host_table(stored).markdown()}"


def _head(report: Mapping[str, Any]) -> str:
    machine, told = report["machine"], report["versions"]
    where = f"{machine['gpus'][0]['name']}, driver {machine['driver']['version']}, torch {told['torch']}"
    return f"{where}, qied {told['qied']}, {report['at'][:10]}.\n\n```sh\n{report['command']}\n```\n"


def host_table(report: Mapping[str, Any]) -> Table:
    """A row for each plan of a machine with little host memory: peaks of the card and of the host."""
    plans: dict[str, list[Mapping[str, Any]]] = {}
    for case in report["cases"]:
        plans.setdefault(case["setup"], []).append(case)
    cells = [
        (
            name,
            str(cases[0]["plan"]["resident"]),
            f"{max(case['measured_bytes'] for case in cases) / GB:.2f} of {cases[0]['plan']['budget_bytes'] / GB:.2f}",
            f"{max(case['host']['measured'] for case in cases) / GB:.2f}",
            f"{cases[0]['host']['predicted'] / GB:.2f}",
        )
        for name, cases in plans.items()
    ]
    columns = ("budget, form", "blocks that stay", "card, GB", "host, GB", "the plan's buffers and weights there, GB")
    return Table("A Q4_K file with 16 GiB of host memory", columns, tuple(cells))


def table(report: Mapping[str, Any]) -> Table:
    """A row for each plan: how far its edits' predicted peaks are above the measured ones."""
    plans: dict[str, list[Mapping[str, Any]]] = {}
    for case in report["cases"]:
        plans.setdefault(case["setup"], []).append(case)
    cells = [
        (
            _title(name, cases[0]["plan"]),
            str(cases[0]["plan"]["resident"]),
            str(len(cases)),
            f"{min(case['measured_bytes'] for case in cases) / GB:.2f} to "
            f"{max(case['measured_bytes'] for case in cases) / GB:.2f}",
            f"{min(case['over'] for case in cases):+.1%} to {max(case['over'] for case in cases):+.1%}",
        )
        for name, cases in plans.items()
    ]
    columns = ("budget, precision", "blocks that stay", "edits", "measured peaks, GB", "predicted over measured")
    return Table("Predicted and measured peaks", columns, tuple(cells))


def _title(name: str, plan: Mapping[str, Any]) -> str:
    """``8 GB fp8`` as the page says it."""
    budget, _, precision = name.rpartition(" ")
    attention = ", attention in FP8" if plan.get("attention", [])[:1] == ["fp8"] else ""
    return f"{budget.replace('all GB', 'all of the card')}, {precision}{attention}"
