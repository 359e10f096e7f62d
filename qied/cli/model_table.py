"""Weight files for people: a table of what they are, with their problems below it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qied_client.cli.made_again import printable
from qied_client.text import file_size
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from qied.checkpoints.report import Report

_ROLES = {"text_encoder": "text encoder", "vae": "VAE", "lora": "LoRA", "checkpoint": "all in one", None: "?"}
_WIDE = 110
"""Columns from which everything has room."""


def show_reports(console: Console, reports: Sequence[Report]) -> None:
    """A line for each file, then each problem with the file's name; a narrow console leaves layout and model out."""
    wide = console.width >= _WIDE
    columns = (
        ("file", "part", "layout", "precision", "model", "size") if wide else ("file", "part", "precision", "size")
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name == "size" else "left", no_wrap=name != "file", overflow="fold")
    for report in reports:
        cells = _cells(report)
        table.add_row(*(cells[name] for name in columns))
    console.print(table)
    for report in reports:
        if not wide and report.shown_by is not None and not report.problems:
            console.print(f"[dim]{shown_name(report.path.name)} is {_model(report)}[/]", soft_wrap=True)
        show_problems(console, report.path.name, (*report.problems, *report.notes))


def show_problems(console: Console, name: str, problems: Iterable[str]) -> None:
    """What is wrong with one file, a line each."""
    for problem in problems:
        console.print(f"[yellow]![/] [bold]{shown_name(name)}[/]: {escape(printable(problem))}", soft_wrap=True)


def shown_name(path: str) -> str:
    """A name or path of somebody's for one line of a terminal, as text and not as rich's markup or control codes."""
    return escape(printable(path).replace("\n", "\\n"))


def _cells(report: Report) -> dict[str, str]:
    precision = (report.precision or "-").replace("_", " ")
    if report.lightning_steps is not None:
        precision += f", {report.lightning_steps} steps"
    mark = "[yellow]![/]\N{NO-BREAK SPACE}" if report.problems else "[green]✓[/]\N{NO-BREAK SPACE}"
    return {
        "file": mark + shown_name(report.path.name or str(report.path)),
        "part": report.method or _ROLES.get(report.role, str(report.role)),
        "layout": report.layout or "-",
        "precision": precision,
        "model": _model(report) or "-",
        "size": file_size(report.bytes),
    }


def _model(report: Report) -> str:
    """The model that a file belongs to, and what shows which of several with the same tensors a transformer is."""
    name = report.model or report.version or ""
    return f"{name} (by its {report.shown_by})" if name and report.shown_by is not None else name
