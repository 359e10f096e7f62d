"""The progress of loading a model shows in terminals only."""

from __future__ import annotations

import io

from rich.console import Console

from qied.cli.progress import LoadingProgress


def told(*, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    with LoadingProgress(console) as progress:
        progress("text encoder", 1_000_000_000, 16_600_000_000)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_terminal_shows_the_start_of_the_worker_then_what_is_loaded() -> None:
    text = told(terminal=True)
    assert text.index("starting the worker") < text.index("loading text encoder")
    assert "0.9 of 15.5 GiB" in text


def test_the_start_of_the_worker_counts_nothing() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with LoadingProgress(console):
        pass
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "starting the worker" in text
    assert "?" not in text.replace("[?25", "") and "bytes" not in text


def test_elsewhere_the_log_says_it() -> None:
    assert told(terminal=False) == ""
