"""The progress of loading a model, as a bar in a terminal; elsewhere the log says what matters."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class LoadingProgress:
    """Shows how many bytes of which component are loaded. Call it with name, bytes done and bytes in all."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr)
        self._live: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Progress(
                TextColumn("{task.description:<28}"),
                BarColumn(bar_width=32),
                DownloadColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._live.start()
            self._task = self._live.add_task("starting the worker", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show one piece of news."""
        if self._live is not None and self._task is not None:
            self._live.update(self._task, description=f"loading {what}", completed=done, total=total)
