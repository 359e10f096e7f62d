"""A check of the system's clock, without a network: no file here can be newer than now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from qied.doctor.checkup import Check
from qied.doctor.facts import Facts
from qied.doctor.findings import Verdict, ok, warning

_TOLERANCE_S = 24 * 3600.0
"""File times of installers and other machines may be off by a time zone."""
_INSTALLATION = Path(__file__).resolve().parents[2]


def sane(facts: Facts) -> Verdict:
    """The clock is not before the newest file of the installation and of the state folder."""
    newest = max(_times(facts.home))
    said = datetime.fromtimestamp(facts.now, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if facts.now < newest - _TOLERANCE_S:
        then = datetime.fromtimestamp(newest, UTC).strftime("%Y-%m-%d")
        return warning(f"The clock says {said}, but there are files of {then}.", "Set it: timedatectl set-ntp true")
    return ok(f"{said}.")


def _times(home: Path) -> Iterator[float]:
    yield from (file.stat().st_mtime for file in _INSTALLATION.glob("*.py"))
    with suppress(OSError):  # a folder that this user may not enter, which state.folder tells
        yield from (file.stat().st_mtime for file in home.glob("journal.db*"))


CHECKS = (Check("clock.sane", "It decides when results are deleted, and the order of jobs.", sane, local=True),)
