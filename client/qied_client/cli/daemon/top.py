"""``top``: a live view of what the daemon is doing, from its status report once a second."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from qied_client.cli.failures import failures_as_text
from qied_client.cli.options import Address, Key
from qied_client.cli.status import counts, headline, memory_bar, seconds
from qied_client.client import Client
from qied_client.errors import QiedError, UnreachableError
from qied_client.protocol import messages as m
from qied_client.text import column_size, counted

_REFRESH_S = 1.0
_PATIENCE_S = 3.0
_LISTED = 40
"""Jobs of the user's own whose prompts are looked up."""

_Name = tuple[str, str]


class Speed:
    """Steps in a second over all edits, from one report to the next."""

    def __init__(self) -> None:
        self._steps: Mapping[_Name, int] | None = None
        self._at = 0.0
        self.steps_per_s: float | None = None

    def take(self, report: m.StatusReport, now_s: float) -> None:
        """Count the steps since the report before; None until there are two, or where one was too soon."""
        steps = _steps(report)
        if self._steps is not None and now_s > self._at:
            before = self._steps
            self.steps_per_s = sum(max(0, step - before.get(name, 0)) for name, step in steps.items()) / (
                now_s - self._at
            )
        self._steps, self._at = steps, now_s


def _steps(report: m.StatusReport) -> dict[_Name, int]:
    """The step of each running job: of its user, by its id or, where that is hidden, by its place among such."""
    steps: dict[_Name, int] = {}
    hidden: Counter[str] = Counter()
    for row in report.jobs:
        if row.state == "running":
            hidden[row.user] += row.job is None
            steps[row.user, row.job or f"#{hidden[row.user]}"] = row.step
    return steps


@dataclass(frozen=True)
class View:
    """What is drawn: a report, the speed, and the prompts of the user's own jobs by id."""

    report: m.StatusReport
    steps_per_s: float | None
    prompts: Mapping[str, str]
    trouble: str = ""

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = [headline(self.report), counts(self.report), self._pace()]
        if self.trouble:
            parts.append(Text(self.trouble, "yellow"))
        for row in self.report.workers:
            parts.extend(("", *_card(row)))
        if self.report.jobs:
            parts.extend(("", self._jobs()))
        return Group(*parts)

    def _pace(self) -> Text:
        edits = f"{counted(self.report.running, 'edit')} at once"
        speed = "-" if self.steps_per_s is None else f"{self.steps_per_s:.2f}"
        return Text(f"{edits}, {speed} steps/s, {self.report.waiting} in the queue")

    def _jobs(self) -> Table:
        table = Table(
            Column("user", no_wrap=True, overflow="ellipsis", max_width=10),
            Column("state", no_wrap=True),
            Column("step", no_wrap=True, justify="right"),
            Column("size", no_wrap=True),
            Column("queue", no_wrap=True),
            Column("prompt", no_wrap=True, overflow="ellipsis", ratio=1),
            box=None,
            pad_edge=False,
            padding=(0, 1, 0, 0),
            header_style="bold",
            expand=True,
        )
        for row in self.report.jobs:
            queue = "" if row.place is None else str(row.place)
            if row.place is not None and row.starts_in_ms is not None:
                queue = f"{queue}, {seconds(row.starts_in_ms)}"
            prompt = " ".join(self.prompts.get(row.job or "", "").split()) or row.job or "-"
            size = f"{row.width}x{row.height}"
            state = Text(row.state, "green" if row.state == "running" else "")
            table.add_row(Text(row.user), state, f"{row.step}/{row.steps}", size, queue, Text(prompt))
        hidden = self.report.running + self.report.waiting - len(self.report.jobs)
        if hidden > 0:
            table.add_row("", "", "", "", "", f"and {hidden} more")
        return table


def _card(row: m.WorkerRow) -> Iterator[Text]:
    """One worker: its card, its memory as a bar, and what keeps it from working."""
    used = f"{column_size(row.budget - row.free)} of {column_size(row.budget)}  " if row.budget else ""
    yield Text.assemble((row.worker, "bold"), f"  {row.state}  {used}{row.device}", overflow="ellipsis", no_wrap=True)
    if row.budget:
        yield memory_bar(row)
    if row.trouble:
        yield Text(row.trouble, "yellow")


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one report and end.")] = False,
    key: Key = None,
    address: Address = None,
) -> None:
    """Watch the daemon: cards and their memory, edits, queue and speed. q or Ctrl-C ends."""
    console = Console(highlight=False)
    with failures_as_text(), Client(key, address=address, patience=_PATIENCE_S) as client:
        view = _look(client, Speed())
        if once or not console.is_terminal:
            console.print(view)
            return
        with suppress(KeyboardInterrupt), _keys() as pressed:
            _watch(client, console, pressed)


def _watch(client: Client, console: Console, pressed: Callable[[float], str]) -> None:
    speed = Speed()
    view = _look(client, speed)
    with Live(view, console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            live.update(view, refresh=True)
            if pressed(_REFRESH_S) in ("q", "Q", "\x03"):
                return
            try:
                view = _look(client, speed)
            except UnreachableError as error:
                view = View(view.report, None, view.prompts, f"waiting for the daemon: {error.message}")


def _look(client: Client, speed: Speed) -> View:
    report = client.status()
    speed.take(report, time.monotonic())
    own = {row.job for row in report.jobs if row.job}
    prompts: dict[str, str] = {}
    with suppress(QiedError):  # an older daemon lists no jobs
        prompts = {job.id: job.prompt for job in client.jobs(limit=_LISTED) if job.id in own} if own else {}
    return View(report, speed.steps_per_s, prompts)


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """A function that waits so many seconds for a key, and returns it, or nothing; Ctrl-C is raised as ever."""
    if not sys.stdin.isatty():

        def wait(timeout_s: float) -> str:
            time.sleep(timeout_s)
            return ""

        yield wait
    elif sys.platform == "win32":
        yield _key_of_windows
    else:
        import select
        import termios
        import tty

        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)

        def read(timeout_s: float) -> str:
            ready, _, _ = select.select([descriptor], [], [], timeout_s)
            return os.read(descriptor, 1).decode(errors="replace") if ready else ""

        try:
            tty.setcbreak(descriptor)
            yield read
        finally:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _key_of_windows(timeout_s: float) -> str:
    import msvcrt

    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if msvcrt.kbhit():  # type: ignore[attr-defined]
            return str(msvcrt.getwch())  # type: ignore[attr-defined]
        time.sleep(0.05)
    return ""
