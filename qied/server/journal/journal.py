"""The journal: the daemon's promises and their outcomes, on disk before any client hears of them."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TypeVar

from qied_client.errors import ConfigError, SetupError

from qied.disk_sync import make_folder
from qied.file_lock import try_lock
from qied.server.journal import statements
from qied.server.journal.changes import Change, ExpireBefore, Expired, JobNote, JournalState
from qied.server.journal.errors import opening_failure, reading_failure
from qied.server.journal.schema import open_database, open_reader
from qied.server.journal.writer import JournalWriter, OnCommit

T = TypeVar("T")


class DaemonLock:
    """Held from construction until ``release`` or the end of the process, however that comes.

    The file stays: to delete it would let two daemons hold locks on two files of one name. Workers are started by exec,
    so they do not keep the lock of a daemon that was killed.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock; raises ConfigError that names the process where another daemon holds it, or SetupError."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            locked = try_lock(self._descriptor)
        except OSError as error:
            os.close(self._descriptor)
            raise _without_locks(path, error) from error
        if not locked:
            holder = os.pread(self._descriptor, 32, 0)
            os.close(self._descriptor)
            raise _refusal(path, holder)
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, str(os.getpid()).encode())

    def release(self) -> None:
        """Let another daemon in; to be called once."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def _refusal(path: Path, holder: bytes) -> ConfigError:
    pid = int(holder) if holder.isdigit() else None
    who = f"process {pid}" if pid is not None else "a process that is starting or exiting"
    return ConfigError(
        f"Another daemon ({who}) already uses the state folder {path.parent}.",
        "Stop that daemon, or give this one a state folder of its own.",
        path=str(path),
        pid=pid,
    )


def _without_locks(path: Path, error: OSError) -> SetupError:
    return SetupError(
        f"The file system of {path.parent} has no locks: {error.strerror}.",
        "Name a state folder on a disk of this machine with --home or QIED_HOME.",
        path=str(path),
    )


class Journal:
    """An open journal; one daemon at a time holds it, and one event loop uses it.

    ``incarnation`` counts the times that it was opened, so it names this run of the daemon. ``next_order`` is the
    first order number that was free at the opening; later ones are for the caller to count.
    """

    def __init__(self, path: Path, lock: DaemonLock, connection: sqlite3.Connection, on_commit: OnCommit) -> None:
        self._path = path
        self._lock: DaemonLock | None = lock
        self.incarnation, last_order = _begin_incarnation(connection)
        self.next_order = last_order + 1
        self._writer = JournalWriter(connection, on_commit)

    @classmethod
    def open(cls, path: Path, on_commit: OnCommit = lambda seconds: None) -> Journal:
        """Open or create the journal (blocking). Creates missing folders with mode 0700.

        ``on_commit`` gets the seconds of each commit, on the writer's thread.

        Raises ConfigError where another daemon holds it or a newer qied wrote it, SetupError where it is damaged or
        cannot be opened, DiskFull.
        """
        try:
            make_folder(path.parent)
            lock = DaemonLock(path.with_name(f"{path.name}.lock"))
            try:
                return cls(path, lock, open_database(path), on_commit)
            except BaseException:
                lock.release()
                raise
        except (sqlite3.Error, OSError) as error:
            raise opening_failure(path, error) from error

    def load(self) -> JournalState:
        """Everything committed so far (blocking); raises SetupError where it cannot be read."""
        try:
            with open_reader(self._path) as connection:
                return statements.load(connection)
        except sqlite3.Error as error:
            raise opening_failure(self._path, error) from error

    async def apply(self, *changes: Change) -> tuple[bool, ...]:
        """Store all of ``changes`` or none; returns after the commit, for each change whether it had an effect.

        Once called, the changes are on their way: cancelling ends the waiting only. Raises DiskFull (and can be
        called again), ShuttingDown, DuplicateJob, SessionConflict, UnknownSession, UnknownTurn, or InternalError.
        """
        return await self._writer.submit(partial(statements.execute_all, changes))

    async def expire(self, limits: ExpireBefore) -> Expired:
        """Drop whatever has expired, in one transaction; raises as ``apply``."""
        return await self._writer.submit(partial(statements.expire, limits))

    async def notes(self, user: str, jobs: Collection[str]) -> dict[str, JobNote]:
        """The notes of these jobs of a user that there are, by job; raises DiskUnavailable or InternalError."""
        return await self._read(partial(statements.read_notes, user, jobs)) if jobs else {}

    async def thumbnail(self, user: str, job: str) -> bytes:
        """The JPEG of a finished job's picture, b"" where there is none; raises as ``notes``."""
        return await self._read(partial(statements.read_thumbnail, user, job))

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Read what is committed, next to the writer and off the event loop."""

        def read() -> T:
            with open_reader(self._path) as connection:
                return work(connection)

        try:
            return await asyncio.to_thread(read)
        except sqlite3.Error as error:
            raise reading_failure(error) from error

    async def close(self) -> None:
        """Store pending changes, close the file and let another daemon in; may be called again."""
        lock, self._lock = self._lock, None
        await asyncio.to_thread(self._writer.close)
        if lock is not None:
            lock.release()


def _begin_incarnation(connection: sqlite3.Connection) -> tuple[int, int]:
    """Count this opening; returns its number and the last order number."""
    try:
        connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'incarnation'")
        meta = dict(connection.execute("SELECT key, value FROM meta"))
    except sqlite3.Error:
        connection.close()
        raise
    return meta["incarnation"], meta["last_order"]
