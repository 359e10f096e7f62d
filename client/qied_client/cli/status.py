"""``ps``: workers, jobs and sessions as tables, or as JSON."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from qied_client.protocol import messages as m

_GIB = 1024**3


def show_status(console: Console, report: m.StatusReport) -> None:
    """Print a status report as tables that fit 80 columns."""
    stopping = " [yellow]stopping[/]" if report.draining else ""
    console.print(
        f"[bold]{report.model}[/] in {report.precision}, up {seconds(report.uptime_ms)}{stopping}: "
        f"{report.running} running, {report.waiting} waiting, {report.stored} results kept, "
        f"{report.clients} clients, {report.blob_bytes / _GIB:.1f} of {report.blob_limit / _GIB:.0f} GiB of pictures"
    )
    console.print(_workers(report))
    for row in report.workers:
        if row.budget:
            console.print(_ledger_bar(row))
    if report.jobs:
        console.print(_jobs(report))
    if report.sessions:
        console.print(_sessions(report))


def _workers(report: m.StatusReport) -> Table:
    table = Table(
        "worker", "state", "device", "budget", "weights", "sessions", "arena", "free", box=None, pad_edge=False
    )
    for row in report.workers:
        sizes = (row.budget, row.weights, row.sessions, row.arena, row.free)
        table.add_row(row.worker, row.state, row.device, *(size_text(size) for size in sizes))
    return table


def _ledger_bar(row: m.WorkerRow, width: int = 60) -> str:
    parts = (("weights", row.weights, "blue"), ("sessions", row.sessions, "green"), ("arena", row.arena, "magenta"))
    cells = [(colour, round(width * size / row.budget), name[0].upper()) for name, size, colour in parts]
    used = sum(count for _, count, _ in cells)
    bar = "".join(f"[{colour}]{mark * count}[/]" for colour, count, mark in cells)
    return f"[{bar}{'.' * max(0, width - used)}] W weights, S sessions, A arena"


def _jobs(report: m.StatusReport) -> Table:
    table = Table("user", "job", "state", "size", "step", "place", "starts in", box=None, pad_edge=False)
    for row in report.jobs:
        table.add_row(
            row.user,
            row.job or "-",
            row.state,
            f"{row.width}x{row.height}",
            f"{row.step}/{row.steps}",
            "" if row.place is None else str(row.place),
            "" if row.starts_in_ms is None else seconds(row.starts_in_ms),
        )
    return table


def _sessions(report: m.StatusReport) -> Table:
    table = Table("user", "session", "turns", "idle", box=None, pad_edge=False)
    for row in report.sessions:
        table.add_row(row.user, row.session or "-", str(row.turns), seconds(row.idle_ms))
    return table


def seconds(milliseconds: int) -> str:
    """A duration for people."""
    total = milliseconds / 1000
    if total < 60:
        return f"{total:.1f} s"
    return f"{total / 60:.0f} min" if total < 3600 else f"{total / 3600:.1f} h"


def size_text(size: int) -> str:
    """Bytes for people."""
    return f"{size / _GIB:.2f} GiB" if size >= _GIB else f"{size / 1024**2:.1f} MiB"
