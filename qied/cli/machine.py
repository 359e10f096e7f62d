"""The machine that a command is about: this one, or that of a recorded snapshot."""

from __future__ import annotations

import os
from pathlib import Path

from qied_client.errors import ConfigError

from qied.hardware.probe import probe
from qied.hardware.selftest import measured
from qied.hardware.snapshot import Snapshot, read_snapshot

_USUAL_FILE = Path("qied.toml")


def usual_config(given: Path | None) -> Path | None:
    """The configuration file: the given one, else ./qied.toml where it exists."""
    return given or (_USUAL_FILE if _USUAL_FILE.is_file() else None)


def read_machine(snapshot: Path | None) -> Snapshot:
    """Read a recorded snapshot, or look at this machine with what earlier self-tests found; raises ConfigError."""
    if snapshot is None:
        return measured(probe(os.environ), only_cached=True)
    try:
        text = snapshot.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{snapshot}: {error.strerror}.", "Record one with: qied probe --json > machine.json"
        ) from error
    return read_snapshot(text, str(snapshot))
