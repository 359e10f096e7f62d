"""The progress of a self-test: a bar on standard error in a terminal, nothing elsewhere."""

from __future__ import annotations

from qied_client.cli.bar import Bar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn


class MeasuringProgress(Bar):
    """Shows which trial runs on which card. Call it with the trial's name, trials done and trials in all."""

    def __init__(self, console: Console | None = None) -> None:
        text = TextColumn("{task.description}", markup=False)
        super().__init__(text, BarColumn(bar_width=16), MofNCompleteColumn(), console=console)

    def __call__(self, what: str, done: int, total: int) -> None:
        self.show(what, done, total)
