"""What ``run --explain`` prints: for each save node its settings, and what every node became."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qied_client.cli.made_again import printable
from qied_client.workflows import Examined, WorkflowRequest


def show_examined(console: Console, examined: Examined, as_json: bool) -> None:
    """Print what a workflow comes to, as tables or as JSON."""
    if as_json:
        console.print_json(json.dumps(_document(examined)))
        return
    for request in examined.requests:
        console.print(_heading(request), soft_wrap=True)
        for name, value in _settings(request):
            console.print(Text.assemble((f"  {name} ", "dim"), printable(value)), soft_wrap=True)
        console.print(_nodes(request))
        for warning in request.warnings:
            console.print(Text(f"warning: {printable(warning)}", "yellow"), soft_wrap=True)
    for node, why in examined.passed_over:
        console.print(Text(f"node {node} is passed over: {printable(why)}", "dim"), soft_wrap=True)


def _document(examined: Examined) -> dict[str, Any]:
    return {
        "requests": [
            {**request.facts(), "notes": [asdict(note) for note in request.notes], "warnings": list(request.warnings)}
            for request in examined.requests
        ],
        "problems": [asdict(problem) for problem in examined.problems],
        "passed_over": [{"node_id": node, "why": why} for node, why in examined.passed_over],
    }


def _heading(request: WorkflowRequest) -> Text:
    what = (
        "picture is upscaled" if request.task == "upscale" else "edit" if request.images else "picture from text alone"
    )
    count = f", {request.count} results" if request.count > 1 else ""
    return Text.assemble((f"{request.node_id} {request.class_type}", "bold"), f"  {what}{count}")


def _settings(request: WorkflowRequest) -> Iterator[tuple[str, str]]:
    for name, value in request.facts().items():
        if name in ("node", "class_type", "filename_prefix", "count") or value in (None, "", []):
            continue
        if name == "loras":
            yield name, ", ".join(f"{lora} {strength:g}" for lora, strength in value)
        elif name == "images":
            yield name, ", ".join(map(str, value))
        else:
            yield name, str(value)


def _nodes(request: WorkflowRequest) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("NODE", no_wrap=True)
    table.add_column("CLASS", overflow="fold")
    table.add_column("HERE", overflow="fold")
    table.add_column("DIFFERS", overflow="fold", style="yellow")
    for note in request.notes:
        table.add_row(note.node_id, Text(printable(note.class_type)), Text(printable(note.became)), note.differs)
    return table
