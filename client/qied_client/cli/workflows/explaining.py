"""What ``run --explain`` prints: for each save node its settings, and what every node became."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qied_client.cli.made_again import printable

if TYPE_CHECKING:
    from qied_client.workflows import Examined, WorkflowRequest

_ALIKE = (
    "Sizes, noise, schedule and guidance are ComfyUI's (compat). The weights, their precision and the reading of "
    "pictures are the daemon's."
)


def show_examined(console: Console, examined: Examined, as_json: bool) -> None:
    """Print what a workflow comes to, as tables or as JSON."""
    if as_json:
        console.print_json(json.dumps(_document(examined)))
        return
    for request in examined.requests:
        console.print(_heading(request), soft_wrap=True)
        for name, value in _settings(request):
            console.print(Text.assemble((f"  {name} ", "dim"), printable(value)), soft_wrap=True)
        for line in _nodes(console, request):
            console.print(line)
        if request.compat:
            console.print(Text(_ALIKE, "dim"), soft_wrap=True)
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


def _nodes(console: Console, request: WorkflowRequest) -> Iterator[Text]:
    """The nodes as lines, without the spaces that a table leaves at their ends; what differs below each."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("NODE", no_wrap=True)
    table.add_column("CLASS", overflow="fold")
    table.add_column("HERE", overflow="fold")
    for note in request.notes:
        here = Text(printable(note.became))
        if note.differs:
            here.append(f"\ndiffers: {printable(note.differs)}", "yellow")
        table.add_row(note.node_id, Text(printable(note.class_type)), here)
    for segments in console.render_lines(table, pad=False):
        line = Text.assemble(*((segment.text, segment.style or "") for segment in segments))
        line.rstrip()
        yield line
