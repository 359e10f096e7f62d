"""The machine that a command works on: this one, or a recorded snapshot."""

from __future__ import annotations

import os
from pathlib import Path

from qied_client.errors import ConfigError

from qied.hardware.probe import probe
from qied.hardware.selftest import measured
from qied.hardware.snapshot import Snapshot, read_snapshot

_USUAL_FILE = Path("qied.toml")


def usual_config(given: Path | None) -> Path | None:
    """The configuration file: the given one, else ./qied.toml where it exists; raises ConfigError."""
    if given is not None:
        return given
    try:
        return _USUAL_FILE if _USUAL_FILE.is_file() else None
    except OSError as error:
        raise ConfigError(
            f"The current folder cannot be searched for {_USUAL_FILE}: {error.strerror}.",
            "Go to a folder that this user may enter, or name a file with --config.",
        ) from error


def read_machine(snapshot: Path | None, *, read_only: bool = False) -> Snapshot:
    """Read a recorded snapshot, or look at this machine with what earlier self-tests found; raises ConfigError.

    With ``read_only`` nothing of the look is kept in the user's cache.
    """
    if snapshot is None:
        return measured(probe(os.environ, read_only=read_only), only_cached=True, read_only=read_only)
    try:
        text = snapshot.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{snapshot}: {error.strerror}.", "Record one with: qied probe --json > machine.json"
        ) from error
    return read_snapshot(text, str(snapshot))
