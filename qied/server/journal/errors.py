"""Failures of the journal: what each of SQLite's errors means for a user."""

from __future__ import annotations

import shlex
import sqlite3
from pathlib import Path

from qied_client.errors import DiskFull, DiskUnavailable, InternalError, QiedError, SetupError
from qied_client.system_failures import what_helps


class DuplicateJob(Exception):
    """The user already has, or had, a job of this id; nothing of the call was stored."""

    def __init__(self, user: str, job: str, *, released: bool) -> None:
        super().__init__(f"job {job!r} of {user!r} {'was released' if released else 'is known'}")
        self.user = user
        self.job = job
        self.released = released


_NO_SPACE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_UNAVAILABLE = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM}


def is_disk_failure(error: Exception) -> bool:
    """Whether the disk did not take the bytes: full, over a quota, broken, read-only, or without free descriptors."""
    return _code(error) in _NO_SPACE | _UNAVAILABLE


def writing_failure(error: Exception) -> QiedError:
    """What a caller gets when its change could not be stored."""
    if _code(error) in _NO_SPACE:
        return DiskFull(
            f"The daemon's journal cannot be written: {error}.", "Free space on the daemon's disk, then try again."
        )
    if _code(error) in _UNAVAILABLE:
        return DiskUnavailable(
            f"The daemon's journal cannot be written: {error}.",
            "Make the daemon's state folder writable again, or raise its limit of open files (ulimit -n).",
        )
    return InternalError(f"The journal refused a change: {error}.", "See the daemon's log, and report this.")


def reading_failure(error: Exception) -> QiedError:
    """What a caller gets when something stored could not be read."""
    if is_disk_failure(error):
        return DiskUnavailable(
            f"The daemon's journal cannot be read: {error}.",
            "See the daemon's disk and its limit of open files (ulimit -n), then try again.",
        )
    return InternalError(f"The journal could not be read: {error}.", "See the daemon's log, and report this.")


def opening_failure(path: Path, error: Exception) -> QiedError:
    """Why the journal could not be opened."""
    if _code(error) in _NO_SPACE:
        return writing_failure(error)
    if _code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return damaged(path, str(error))
    remedy = "Give the daemon permission to read and write there, or configure another state folder."
    return SetupError(
        f"The journal {path} cannot be opened: {error}.",
        what_helps(error) if isinstance(error, OSError) else remedy,
        path=str(path),
    )


def damaged(path: Path, problem: str) -> SetupError:
    """The journal is not whole: it is left as it is, and the remedy says how to continue without it."""
    aside = path.with_name("damaged")
    return SetupError(
        f"The journal {path} is damaged: {problem}.",
        "Restore it from a backup, or move it aside and lose the jobs in it: "
        f"mkdir {shlex.quote(str(aside))} && mv {shlex.quote(str(path))}* {shlex.quote(str(aside))}",
        path=str(path),
    )


def _code(error: Exception) -> int | None:
    extended = getattr(error, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF
