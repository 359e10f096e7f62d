"""``ps``: a status report as text of 80 columns that reads without colour."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from qied_client.protocol import messages as m
from qied_client.text import GIB, column_size, counted

_BAR_CELLS = 60
_USER_CELLS = 12
_STYLES = {
    "ready": "green",
    "running": "green",
    "starting": "yellow",
    "draining": "yellow",
    "lost": "red",
    "unloaded": "dim",
}


def show_status(console: Console, report: m.StatusReport) -> None:
    """Print a status report. Ids of the user's own jobs and sessions are whole, other names may be cut."""
    console.print(headline(report))
    console.print(counts(report))
    for part in _parts(report):
        console.print()
        console.print(part)


def _parts(report: m.StatusReport) -> Iterator[Table]:
    if report.workers:
        yield _workers(report)
    if troubled := [row for row in report.workers if row.trouble]:
        yield _troubles(troubled)
    if measured := [row for row in report.workers if row.budget]:
        yield _memory(measured)
        yield _bars(measured)
    if report.jobs:
        yield _jobs(report)
    if report.sessions:
        yield _sessions(report)


def headline(report: m.StatusReport) -> Text:
    """What is served, and in which state the daemon is."""
    text = Text.assemble((report.model, "bold"), f" in {report.precision}, up {seconds(report.uptime_ms)}")
    if report.paused:
        text.append(", paused by the owner", "yellow")
    if report.finishing:
        text.append(", stopping when the queue is done", "yellow")
    return text.append(", stopping", "yellow") if report.draining else text


def counts(report: m.StatusReport) -> Text:
    """How many jobs, results and clients there are."""
    return Text(
        f"{report.running} running, {report.waiting} waiting, {counted(report.stored, 'result')} kept, "
        f"{counted(report.clients, 'client')}, "
        f"{report.blob_bytes / GIB:.1f} of {report.blob_limit / GIB:.0f} GiB of pictures"
    )


def _table(*columns: Column) -> Table:
    return Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def _name(header: str, most: int | None = None) -> Column:
    return Column(header, no_wrap=True, overflow="ellipsis", max_width=most)


def _whole(header: str) -> Column:
    return Column(header, overflow="fold")


def _right(header: str) -> Column:
    return Column(header, no_wrap=True, justify="right")


def _state(state: str) -> Text:
    return Text(state, _STYLES.get(state, ""))


def _workers(report: m.StatusReport) -> Table:
    table = _table(_name("worker", 20), Column("state", no_wrap=True), _right("restarts"), _whole("device"))
    for row in report.workers:
        table.add_row(Text(row.worker), _state(row.state), str(row.restarts), Text(row.device or "-"))
    return table


def _troubles(rows: list[m.WorkerRow]) -> Table:
    table = _table(_name("worker", 20), _whole("what keeps it from working"))
    for row in rows:
        table.add_row(Text(row.worker), Text(row.trouble))
    return table


def _memory(rows: list[m.WorkerRow]) -> Table:
    sizes = ("budget", "weights", "sessions", "arena", "free")
    table = _table(_name("memory", 20), *(_right(size) for size in sizes))
    for row in rows:
        table.add_row(Text(row.worker), *(column_size(getattr(row, size)) for size in sizes))
    return table


def _bars(rows: list[m.WorkerRow]) -> Table:
    table = _table(_name("", 16), Column("W weights, S sessions, A arena, . free", no_wrap=True, header_style=""))
    for row in rows:
        table.add_row(Text(row.worker), memory_bar(row))
    return table


def memory_bar(row: m.WorkerRow) -> Text:
    """The budget as cells. Each part ends at the cell nearest to the sum so far, so all add up to the bar."""
    bar = Text("[")
    used = cells = 0
    for mark, size, colour in (("W", row.weights, "blue"), ("S", row.sessions, "green"), ("A", row.arena, "magenta")):
        used += size
        end = min(_BAR_CELLS, round(_BAR_CELLS * used / row.budget))
        bar.append(mark * (end - cells), colour)
        cells = end
    return bar.append("." * (_BAR_CELLS - cells) + "]")


def _jobs(report: m.StatusReport) -> Table:
    fixed = (Column(header, no_wrap=True) for header in ("state", "size", "step"))
    hidden = report.running + report.waiting - len(report.jobs)
    table = _table(_name("user", _USER_CELLS), *fixed, Column("queue", no_wrap=True), _whole("job"))
    table.padding = (0, 1, 0, 0)
    for row in report.jobs:
        size = f"{row.width}x{row.height}"
        step = f"{row.step}/{row.steps}"
        table.add_row(Text(row.user), _state(row.state), size, step, _queue(row), Text(row.job or "-"))
    if hidden > 0:
        table.add_row("", "", "", "", "", f"and {hidden} more")
    return table


def _queue(row: m.JobRow) -> str:
    if row.place is None:
        return ""
    return f"{row.place}" if row.starts_in_ms is None else f"{row.place}, {seconds(row.starts_in_ms)}"


def _sessions(report: m.StatusReport) -> Table:
    table = _table(_name("user", _USER_CELLS), _right("turns"), _right("idle"), _whole("session"))
    for row in report.sessions:
        table.add_row(Text(row.user), str(row.turns), seconds(row.idle_ms), Text(row.session or "-"))
    return table


def when_text(time: datetime | None, now: datetime) -> str:
    """Time of day, or the date of another day, in the zone of ``now``."""
    if time is None:
        return "-"
    when = time.astimezone(now.tzinfo)
    if when.date() == now.date():
        return f"{when:%H:%M}"
    return f"{when:%d %b}" if when.year == now.year else f"{when:%Y-%m}"


def seconds(milliseconds: int) -> str:
    """A duration for people."""
    total = milliseconds / 1000
    if total < 59.95:
        return f"{total:.1f} s"
    if total < 3570:
        return f"{total / 60:.0f} min"
    return f"{total / 3600:.1f} h" if total < 48 * 3600 else f"{total / 86400:.0f} days"
