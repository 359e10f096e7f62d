"""The progress of an edit: a live bar in a terminal, lines of plain text elsewhere."""

from __future__ import annotations

import sys
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from qied_client.cli.bar import Bar
from qied_client.cli.status import seconds
from qied_client.results import Progress as News

_LABELS = {
    "encode_prompt": "reading the prompt",
    "encode_image": "reading the picture",
    "prepare_steps": "preparing the steps",
    "denoise": "editing",
    "decode": "finishing",
    "disk": "waiting for the daemon's disk",
}

_LABEL_CHARS = 40
"""A longer note on why nothing starts has a line of its own above the bar."""


def describe(news: News) -> str:
    """One short phrase for a piece of news."""
    match news.kind:
        case "waiting":
            return news.note if len(news.note) <= _LABEL_CHARS else "waiting"
        case "upload":
            return "uploading"
        case "download":
            return "downloading"
        case "queued":
            place = "" if news.place is None else f", place {news.place}"
            waiting = f"{news.note if news.note and len(news.note) <= _LABEL_CHARS else 'waiting'}{place}"
            return waiting if news.starts_in_ms is None else f"{waiting}, {seconds(news.starts_in_ms)} to go"
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


class EditProgress(Bar):
    """Shows the news of one edit. Use it as the ``on_progress`` of a call, inside a ``with`` block."""

    def __init__(self, stream: TextIO | None = None) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<24}", markup=False, table_column=Column(no_wrap=True, max_width=36)),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[count]}", markup=False, table_column=Column(no_wrap=True)),
            TimeElapsedColumn(),
        )
        super().__init__(*columns, console=Console(file=stream or sys.stderr, highlight=False))
        self._said = self._noted = ""

    def __enter__(self) -> Self:
        self.show("connecting", 0, None, count="")
        return self

    def __call__(self, news: News) -> None:
        if news.kind in ("queued", "waiting"):
            self._note(news.note if len(news.note) > _LABEL_CHARS else "")
        text = describe(news)
        if self.console.is_terminal:
            self.show(text, news.done, news.total or None, count=_count(news))
        elif text != self._said:
            self._said = text
            self.console.print(Text(text), soft_wrap=True)

    def _note(self, note: str) -> None:
        """Say once why nothing starts, above the bar; a note is too long for a bar's line."""
        if note and note != self._noted:
            self.console.print(Text(f"no edit can start now: {note}", "yellow"), soft_wrap=True)
        self._noted = note
