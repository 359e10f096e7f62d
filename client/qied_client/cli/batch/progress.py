"""One progress for a whole batch, and a line for each failure."""

from __future__ import annotations

import threading
import time
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from qied_client.aio.following import CONNECTION_LOST
from qied_client.batch.edits import BatchEdit
from qied_client.batch.run import BatchOutcome
from qied_client.cli.bar import Bar
from qied_client.cli.status import seconds
from qied_client.results import Progress as News

_SAID_S: Final = 30.0
"""Seconds between two lines where there is no terminal."""


class BatchProgress(Bar):
    """A bar over all edits; without a terminal a line now and then. ``total`` is None for a watched folder."""

    def __init__(self, total: int | None, console: Console | None = None) -> None:
        super().__init__(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=30)),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}", markup=False, table_column=Column(no_wrap=True)),
            TimeElapsedColumn(),
            console=console,
        )
        self.total = total
        self.made = self.skipped = self.failed = 0
        self._begun = self._said = time.monotonic()
        self._lost = False
        self._lock = threading.Lock()

    @property
    def ended(self) -> int:
        """Edits that are over, however they ended."""
        return self.made + self.skipped + self.failed

    def begin(self) -> None:
        """Show the bar."""
        self._begun = self._said = time.monotonic()
        self._draw()

    def ended_one(self, outcome: BatchOutcome) -> None:
        """Count an outcome; a failure has a line of its own."""
        self.skipped += outcome.skipped
        self.made += outcome.succeeded and not outcome.skipped
        if outcome.error is not None:
            self.failed += 1
            which = f"row {outcome.index}, {outcome.name}" + (
                f", variation {outcome.number}" if outcome.number > 1 else ""
            )
            text = Text.assemble(
                ("failed ", "bold red"), f"{which}: ", (outcome.error.code, "dim"), f" {outcome.error}"
            )
            self.console.print(text, soft_wrap=True)
        self._draw()

    def heard(self, edit: BatchEdit, news: News) -> None:
        """News of one edit: only those of the connection are worth a word here."""
        with self._lock:
            lost = news.kind == "waiting" and news.note == CONNECTION_LOST
            if lost != self._lost and (lost or news.kind != "waiting"):
                self._lost = lost
                self._draw()

    def _draw(self) -> None:
        what = f"{CONNECTION_LOST}, waiting" if self._lost else "editing" if self.total else "watching"
        count = self._count()
        if self.console.is_terminal:
            self.show(what, self.ended, self.total, count=count)
        elif time.monotonic() - self._said >= _SAID_S:
            self._said = time.monotonic()
            self.console.print(Text(f"{what}: {count}"), soft_wrap=True)

    def _count(self) -> str:
        parts = [f"{self.ended}/{self.total}" if self.total else f"{self.ended}"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.total and self.made:
            each = (time.monotonic() - self._begun) / (self.made + self.failed)
            parts.append(f"{seconds(round(each * (self.total - self.ended) * 1000))} left")
        return "  ".join(parts)
