"""Progress on standard error while a model loads, a self-test runs, or files are fetched: bars in a terminal."""

from __future__ import annotations

from typing import Self

from qied_client.cli.bar import Bar
from qied_client.text import GIB, MIB, file_size
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column
from rich.text import Text

from qied.downloads.wanted import RemoteFile


class LoadingProgress(Bar):
    """Shows how many bytes of which component are loaded. Call it with name, bytes done and bytes in all."""

    def __init__(self, console: Console | None = None) -> None:
        text = TextColumn("{task.description:<28}", markup=False)
        columns = (
            text,
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}", "progress.download"),
            TimeRemainingColumn(),
        )
        super().__init__(*columns, console=console)

    def __enter__(self) -> Self:
        self.show("starting the worker", 0, None)
        return self

    def __call__(self, what: str, done: int, total: int) -> None:
        # In one of the units of plans and `qied ps`.
        unit, name = (GIB, "GiB") if total >= GIB else (MIB, "MiB")
        self.show(f"loading {what}", done, total, count=f"{done / unit:.1f} of {total / unit:.1f} {name}")


class MeasuringProgress(Bar):
    """Shows which trial runs on which card. Call it with the trial's name, trials done and trials in all."""

    def __init__(self, console: Console | None = None) -> None:
        text = TextColumn("{task.description}", markup=False)
        super().__init__(text, BarColumn(bar_width=16), MofNCompleteColumn(), console=console)

    def __call__(self, what: str, done: int, total: int) -> None:
        self.show(what, done, total)


class PullProgress(Bar):
    """Shows which file is being fetched. Call it with the file, bytes fetched and bytes to fetch in all."""

    def __init__(self, console: Console | None = None) -> None:
        text = TextColumn("{task.description:<28}", markup=False, table_column=Column(no_wrap=True))
        columns = (text, BarColumn(bar_width=12), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        super().__init__(*columns, console=console)
        self._file: RemoteFile | None = None

    def __call__(self, file: RemoteFile, done: int, total: int) -> None:
        self.show(_short(file), done, total)
        if file != self._file and not self.console.is_terminal:
            self.console.print(Text(f"{file.path}  {file_size(file.bytes)}"), soft_wrap=True)
        self._file = file


def _short(file: RemoteFile) -> str:
    """Part and number of a file in 28 columns: ``transformer/...01-of-00005``."""
    name = file.path.removesuffix(".safetensors")
    return name if len(name) <= 28 else f"{name[:12]}...{name[-13:]}"
