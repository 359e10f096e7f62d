"""The progress of a pull on standard error: a bar over all bytes in a terminal, a line for each file elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column
from rich.text import Text

from qied.downloads.wanted import RemoteFile, amount


class PullProgress:
    """Shows which file is being fetched. Call it with the file, bytes fetched and bytes to fetch in all."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False, markup=False)
        self._live: Progress | None = None
        self._task: TaskID | None = None
        self._file: RemoteFile | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, file: RemoteFile, done: int, total: int) -> None:
        """Show one piece of news; the bar appears with the first."""
        if self._console.is_terminal:
            self._move_bar(file, done, total)
        elif file != self._file:
            self._console.print(Text(f"{file.path}  {amount(file.bytes)}"), soft_wrap=True)
        self._file = file

    def _move_bar(self, file: RemoteFile, done: int, total: int) -> None:
        if self._live is None:
            self._live = Progress(
                TextColumn("{task.description:<28}", markup=False, table_column=Column(no_wrap=True)),
                BarColumn(bar_width=12),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._live.start()
            self._task = self._live.add_task(_short(file), total=total)
        assert self._task is not None
        self._live.update(self._task, description=_short(file), completed=done, total=total)


def _short(file: RemoteFile) -> str:
    """Part and number of a file in 28 columns: ``transformer/...01-of-00005``."""
    name = file.path.removesuffix(".safetensors")
    return name if len(name) <= 28 else f"{name[:12]}...{name[-13:]}"
