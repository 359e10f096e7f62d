"""The self-test's progress shows in terminals only."""

from __future__ import annotations

import io

from rich.console import Console

from qied.cli.progress import MeasuringProgress


def told(*, terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    with MeasuringProgress(console) as progress:
        progress("NVIDIA GeForce RTX 4090: fp8_rowwise", 1, 13)
    return console.file.getvalue()


def test_a_terminal_shows_the_trial_that_runs():
    text = told(terminal=True)
    assert "NVIDIA GeForce RTX 4090: fp8_rowwise" in text
    assert "1/13" in text


def test_a_file_stays_empty():
    assert told(terminal=False) == ""
