"""``session list`` and ``session history`` as text of 80 columns that reads without colour."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.table import Column, Table
from rich.text import Text

from qied_client.cli.status import seconds, when_text
from qied_client.history import SessionSummary, Turn

_STYLES = {"running": "green", "waiting": "yellow", "failed": "red", "poisoned": "red", "cancelled": "red"}


def sessions_table(sessions: Sequence[SessionSummary], now: datetime) -> Table:
    """Open sessions; names are whole, prompts are cut to the room that is left."""
    table = _table(Column("session", overflow="fold"), _right("turns"), _right("at"), _right("used"), _prompt())
    for row in sessions:
        where = (str(row.turns), str(row.head), when_text(row.used_at, now))
        table.add_row(Text(row.name), *where, _one_line(row.prompt))
    return table


def history_table(turns: Sequence[Turn], head: int, now: datetime) -> Table:
    """Turns from the first picture on, the ``head`` marked; prompts are cut to the room that is left."""
    fixed = (Column("", no_wrap=True), _right("turn"), _right("base"), Column("state", no_wrap=True))
    table = _table(*fixed, _prompt(), _right("seed"), _right("when"), _right("took"))
    table.add_row(_mark(0, head), "0", "", "", Text("(the first picture)", "dim"), "", "", "")
    for turn in turns:
        table.add_row(
            _mark(turn.turn, head),
            str(turn.turn),
            str(turn.base),
            Text(turn.state, _STYLES.get(turn.state, "")),
            _one_line(turn.prompt),
            "-" if turn.seed is None else str(turn.seed),
            when_text(turn.finished_at or turn.accepted_at, now),
            _took(turn),
        )
    return table


def _table(*columns: Column) -> Table:
    return Table(*columns, box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", expand=True)


def _right(header: str) -> Column:
    return Column(header, no_wrap=True, justify="right")


def _prompt() -> Column:
    return Column("prompt", no_wrap=True, overflow="ellipsis", ratio=1, min_width=8)


def _one_line(prompt: str) -> Text:
    return Text(" ".join(prompt.split()) or "-")


def _mark(turn: int, head: int) -> Text:
    return Text(">" if turn == head else "", "bold green")


def _took(turn: Turn) -> str:
    """From acceptance to the end, waiting included."""
    if turn.accepted_at is None or turn.finished_at is None:
        return "-"
    return seconds(round((turn.finished_at - turn.accepted_at).total_seconds() * 1000))
