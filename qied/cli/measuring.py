"""The progress of a self-test: a bar on standard error in a terminal, nothing elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn


class MeasuringProgress:
    """Shows which trial runs on which card. Call it with what is measured, trials done and trials in all."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show one piece of news; the bar appears with the first."""
        if not self._console.is_terminal:
            return
        if self._live is None:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=16), MofNCompleteColumn())
            self._live = Progress(*columns, console=self._console, transient=True)
            self._live.start()
            self._task = self._live.add_task(what, total=total)
        assert self._task is not None
        self._live.update(self._task, description=what, completed=done, total=total)
