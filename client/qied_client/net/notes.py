"""Notes on errors, which tracebacks show from Python 3.11 on."""

from __future__ import annotations


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an error, as ``error.add_note`` does where there is that."""
    error.__dict__["__notes__"] = [*getattr(error, "__notes__", ()), note]
