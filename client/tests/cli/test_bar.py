"""Bars show in terminals, with one row at a time, and leave nothing behind."""

from __future__ import annotations

import io
import threading
from contextlib import suppress
from typing import Any

from qied_client.cli.bar import Bar
from rich.console import Console
from rich.progress import TextColumn

_LIMIT_S = 20.0


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, highlight=False, markup=False)


def written(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def counted(*, anew: bool) -> list[str]:
    """Rows of a bar that was told of two things."""
    with Bar(TextColumn("{task.description} {task.completed}/{task.total}"), console=console(terminal=True)) as bar:
        bar.show("first [1]", 3, 5)
        bar.show("second", 0, None, anew=anew)
        assert bar._live is not None
        assert len(bar._live.tasks) == 1
        assert (bar._live.tasks[0].id != 0) == anew
    assert bar._live.finished or not bar._live.live.is_started
    return written(bar.console).splitlines()


def test_what_begins_anew_takes_the_place_of_what_was_there() -> None:
    assert any("second 0/None" in row for row in counted(anew=True))
    assert any("second 0" in row for row in counted(anew=False))


def test_no_terminal_no_bar() -> None:
    with Bar(TextColumn("{task.description}"), console=console(terminal=False)) as bar:
        bar.show("what", 1, 2)
    assert written(bar.console) == ""


def test_a_bar_without_news_is_no_bar() -> None:
    with Bar(TextColumn("{task.description}"), console=console(terminal=True)) as bar:
        pass
    assert written(bar.console) == ""


def test_an_interrupt_while_a_bar_starts_or_stops_leaves_no_lock_taken(interrupter: Any) -> None:
    before = set(threading.enumerate())
    at = 0
    while True:
        bar = Bar(TextColumn("{task.description}"), console=console(terminal=True))

        def shown(bar: Bar = bar) -> None:
            with bar:
                bar.show("editing", 1, 4)

        interrupting = interrupter(at, threading.__file__)
        with suppress(KeyboardInterrupt):
            interrupting.during(shown)
        with bar:  # for an interrupt just before the bar's own end
            pass
        for thread in set(threading.enumerate()) - before:
            thread.join(_LIMIT_S)
            assert not thread.is_alive(), f"an interrupt before instruction {at}"
        if not interrupting.sent:
            break
        at += 1
    assert at > 100
