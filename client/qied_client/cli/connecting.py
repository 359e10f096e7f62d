"""A command's connection, with a spinner in a terminal while it is made: where nothing answers, that takes seconds."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from qied_client.client import Client


def connected(key: Path | None, address: str | None, *, patience: float | None = None) -> Client:
    """Connect to the daemon, as ``Client`` does; use it in a ``with`` block."""
    with Console(stderr=True).status("connecting to the daemon"):
        return Client(key, address=address, patience=patience)
