"""A progress bar on standard error, where that is a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TaskID

from qied_client.net.interrupts import HeldInterrupts

if TYPE_CHECKING:
    from typing_extensions import Self


class Bar:
    """A bar of ``columns`` that appears with the first news and is gone at the end; none without a terminal."""

    def __init__(self, *columns: ProgressColumn, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, markup=False)
        self._columns = columns
        self._live: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            with HeldInterrupts():  # it has a thread, which it waits for
                self._live.stop()

    def show(self, what: str, done: int, total: int | None, *, anew: bool = False, count: str = "") -> None:
        """Say what is done now and how much of it is; without a ``total`` the one before holds.

        ``anew`` starts a new count, with its own time. ``count`` is for a column of ``task.fields[count]``.
        """
        if not self.console.is_terminal:
            return
        with HeldInterrupts():
            self._show(what, done, total, anew, count)

    def _show(self, what: str, done: int, total: int | None, anew: bool, count: str) -> None:
        if self._live is None:
            self._live = Progress(*self._columns, console=self.console, transient=True)
            self._live.start()
        if self._task is not None and anew:
            self._live.remove_task(self._task)
            self._task = None
        if self._task is None:
            self._task = self._live.add_task(what, total=total, count=count)
        self._live.update(self._task, description=what, completed=done, total=total, count=count)
