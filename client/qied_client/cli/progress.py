"""The progress of an edit: a live bar in a terminal, lines of plain text elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from qied_client.aio.following import CONNECTION_LOST
from qied_client.cli.bar import Bar
from qied_client.cli.status import seconds
from qied_client.results import Progress as News

if TYPE_CHECKING:
    from typing_extensions import Self

_LABELS = {
    "encode_prompt": "reading the prompt",
    "encode_image": "reading the picture",
    "prepare_steps": "preparing the steps",
    "denoise": "editing",
    "redraw": "redrawing",
    "decode": "finishing",
    "upscale": "upscaling",
    "disk": "waiting for the daemon's disk",
}

_SOON_MS = 1000
"""An estimate below this says nothing: the first in line starts when a place is free."""
_LABEL_CHARS = 40
"""A longer note on why nothing starts has a line of its own above the bar."""


def describe(news: News) -> str:
    """One short phrase for a piece of news."""
    match news.kind:
        case "upload":
            return "uploading"
        case "download":
            return "downloading"
        case "queued":
            place = "" if news.place is None else f", place {news.place}"
            waiting = f"{news.note if news.note and len(news.note) <= _LABEL_CHARS else 'waiting'}{place}"
            later = news.starts_in_ms is not None and news.starts_in_ms >= _SOON_MS
            return f"{waiting}, starts in {seconds(news.starts_in_ms or 0)}" if later else waiting
        case "started":
            return "started"
        case "waiting":
            if news.note == CONNECTION_LOST:
                return f"{news.note}, waiting"
            return news.note if 0 < len(news.note) <= _LABEL_CHARS else "waiting"
        case "requeued":
            return f"waiting again: {news.note}"
        case _:
            return _LABELS.get(news.phase, news.phase or "editing")


class EditProgress(Bar):
    """Shows the news of an edit. Use it as the ``on_progress`` of a call, inside a ``with`` block.

    ``which`` says which of several edits the news are of.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<24}", markup=False, table_column=Column(no_wrap=True, max_width=36)),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[count]}", markup=False, table_column=Column(no_wrap=True)),
            TimeElapsedColumn(),
        )
        super().__init__(*columns, console=Console(file=stream or sys.stderr, highlight=False))
        self.which = ""
        self._said = self._noted = ""
        self._at = (0, 0)
        self._left = ""

    def __enter__(self) -> Self:
        self.show("connecting", 0, None, count="")
        return self

    def __call__(self, news: News) -> None:
        if news.kind in ("queued", "waiting"):
            self._note(news)
        text = " ".join(filter(None, (self.which, describe(news))))
        if self.console.is_terminal:
            count = self._count(news)
            done, total = self._at if news.kind == "waiting" else (news.done, news.total)
            self._at = (done, total)
            self.show(text, done, total or None, count=count)
        elif text != self._said:
            self._said = text
            self.console.print(Text(text), soft_wrap=True)

    def _count(self, news: News) -> str:
        """What stands after the bar. Previews tell no remaining time: that of the step before them stays."""
        if news.kind in ("upload", "download"):
            return f"{100 * news.done // news.total} %" if news.total else ""
        if news.kind != "preview":
            self._left = "" if news.remaining_ms is None else f"  {seconds(news.remaining_ms)} left"
        return f"{news.done}/{news.total}{self._left}" if news.kind in ("step", "preview") else ""

    def _note(self, news: News) -> None:
        """Say once why nothing starts, or what is waited for, above the bar: a note is too long for a bar's line."""
        note = news.note if len(news.note) > _LABEL_CHARS else ""
        if note and note != self._noted:
            what = "no edit can start now" if news.kind == "queued" else "waiting"
            self.console.print(Text(f"{what}: {note}", "yellow"), soft_wrap=True)
        self._noted = note
