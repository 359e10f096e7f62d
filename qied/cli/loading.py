"""The progress of loading a model, as a bar in a terminal; elsewhere the log says what matters."""

from __future__ import annotations

from typing import Self

from qied_client.cli.bar import Bar
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn


class LoadingProgress(Bar):
    """Shows how many bytes of which component are loaded. Call it with name, bytes done and bytes in all."""

    def __init__(self, console: Console | None = None) -> None:
        text = TextColumn("{task.description:<28}", markup=False)
        columns = (text, BarColumn(bar_width=32), DownloadColumn(), TimeRemainingColumn())
        super().__init__(*columns, console=console)

    def __enter__(self) -> Self:
        self.show("starting the worker", 0, None)
        return self

    def __call__(self, what: str, done: int, total: int) -> None:
        self.show(f"loading {what}", done, total)
