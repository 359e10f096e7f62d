"""The progress of an edit: a live bar in a terminal, lines of plain text elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from qied_client.cli.status import seconds
from qied_client.results import Progress as News

_LABELS = {
    "encode_prompt": "reading the prompt",
    "encode_image": "reading the picture",
    "prepare_steps": "preparing the steps",
    "denoise": "editing",
    "decode": "finishing",
}


def describe(news: News) -> str:
    """One short phrase for a piece of news."""
    match news.kind:
        case "upload":
            return "uploading"
        case "download":
            return "downloading"
        case "queued":
            place = "" if news.place is None else f", place {news.place}"
            return f"waiting{place}" + ("" if news.starts_in_ms is None else f", {seconds(news.starts_in_ms)} to go")
        case "started":
            return "started"
        case "requeued":
            return f"waiting again: {news.note}"
        case _:
            return _LABELS.get(news.phase, news.phase or "editing")


def _count(news: News) -> str:
    if news.kind in ("upload", "download"):
        return f"{100 * news.done // news.total} %" if news.total else ""
    if news.kind not in ("step", "preview"):
        return ""
    left = "" if news.remaining_ms is None else f"  {seconds(news.remaining_ms)} left"
    return f"{news.done}/{news.total}{left}"


class EditProgress:
    """Shows the news of one edit. Use it as the ``on_progress`` of a call, inside a ``with`` block."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = Console(file=stream or sys.stderr, highlight=False)
        self._live: Progress | None = None
        self._task: TaskID | None = None
        self._said = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Progress(
                SpinnerColumn(),
                TextColumn("{task.description:<24}", markup=False, table_column=Column(no_wrap=True, max_width=36)),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[count]}", markup=False, table_column=Column(no_wrap=True)),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._live.start()
            self._task = self._live.add_task("connecting", total=None, count="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, news: News) -> None:
        """Show one piece of news."""
        text = describe(news)
        if self._live is not None and self._task is not None:
            total = news.total or None
            self._live.update(self._task, description=text, completed=news.done, total=total, count=_count(news))
        elif text != self._said:
            self._said = text
            self._console.print(Text(text), soft_wrap=True)
