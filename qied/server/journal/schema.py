"""The journal's tables, their migrations, and the checks made when its file is opened."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from qied_client.errors import ConfigError, SetupError

from qied.server.journal.errors import damaged

APPLICATION_ID = 0x71696564  # "qied", in the file's header

_FIRST = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO meta VALUES ('incarnation', 0), ('last_order', 0)",
    """CREATE TABLE jobs (
        user TEXT NOT NULL, job TEXT NOT NULL, order_number INTEGER NOT NULL UNIQUE, payload_hash TEXT NOT NULL,
        request BLOB NOT NULL, spec BLOB NOT NULL, session TEXT, turn INTEGER, depends_on TEXT,
        accepted_at REAL NOT NULL, deaths INTEGER NOT NULL DEFAULT 0, requeues INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (user, job))""",
    """CREATE TABLE job_blobs (
        user TEXT NOT NULL, job TEXT NOT NULL, place INTEGER NOT NULL, hash TEXT NOT NULL,
        PRIMARY KEY (user, job, place),
        FOREIGN KEY (user, job) REFERENCES jobs ON DELETE CASCADE) WITHOUT ROWID""",
    """CREATE TABLE outcomes (
        user TEXT NOT NULL, job TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('succeeded', 'failed', 'cancelled', 'poisoned')),
        result_blob TEXT, result_bytes INTEGER NOT NULL, media_type TEXT, seed INTEGER NOT NULL, timings BLOB NOT NULL,
        error_code TEXT, error_message TEXT, error_remedy TEXT, finished_at REAL NOT NULL,
        PRIMARY KEY (user, job),
        FOREIGN KEY (user, job) REFERENCES jobs ON DELETE CASCADE)""",
    """CREATE TABLE tombstones (
        user TEXT NOT NULL, job TEXT NOT NULL, payload_hash TEXT NOT NULL, released_at REAL NOT NULL,
        PRIMARY KEY (user, job)) WITHOUT ROWID""",
    """CREATE TABLE sessions (
        user TEXT NOT NULL, session TEXT NOT NULL, source_blob TEXT NOT NULL, opened_at REAL NOT NULL,
        used_at REAL NOT NULL, head INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (user, session)) WITHOUT ROWID""",
    """CREATE TABLE turns (
        user TEXT NOT NULL, session TEXT NOT NULL, turn INTEGER NOT NULL CHECK (turn > 0), job TEXT NOT NULL,
        base INTEGER NOT NULL, result_blob TEXT,
        PRIMARY KEY (user, session, turn),
        FOREIGN KEY (user, session) REFERENCES sessions ON DELETE CASCADE) WITHOUT ROWID""",
    "CREATE INDEX turns_by_job ON turns (user, job)",
    """CREATE TABLE blob_owners (
        user TEXT NOT NULL, hash TEXT NOT NULL, size INTEGER NOT NULL, stored_at REAL NOT NULL,
        PRIMARY KEY (user, hash)) WITHOUT ROWID""",
)

_ADDITIONS = (
    """CREATE TABLE IF NOT EXISTS interruptions (
        user TEXT NOT NULL, job TEXT NOT NULL, boot TEXT, kills INTEGER NOT NULL DEFAULT 0,
        downs INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (user, job),
        FOREIGN KEY (user, job) REFERENCES jobs ON DELETE CASCADE) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS fetches (
        user TEXT NOT NULL, job TEXT NOT NULL, fetched_at REAL NOT NULL,
        PRIMARY KEY (user, job),
        FOREIGN KEY (user, job) REFERENCES jobs ON DELETE CASCADE) WITHOUT ROWID""",
    # A note outlives its job. The thumbnail comes last and is not read with the rest: it lies on pages of its own.
    """CREATE TABLE IF NOT EXISTS notes (
        user TEXT NOT NULL, job TEXT NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL, prompt TEXT NOT NULL,
        seed INTEGER NOT NULL, accepted_at REAL NOT NULL, finished_at REAL NOT NULL, warnings BLOB NOT NULL,
        thumbnail BLOB NOT NULL,
        PRIMARY KEY (user, job))""",
    # An older qied, which does not know notes, leaves them behind when it releases a job or closes a session.
    """DELETE FROM notes
        WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.user = notes.user AND jobs.job = notes.job)
        AND NOT EXISTS (SELECT 1 FROM turns WHERE turns.user = notes.user AND turns.job = notes.job)""",
)

Migrations = Sequence[Sequence[str]]
MIGRATIONS: Migrations = (_FIRST,)
"""Statements that lead from version n (the index) to n + 1; released ones never change.

What only adds a table needs no version: it is made where it is missing (``_ADDITIONS``), and an older qied, which does
not know it, still opens the file.
"""


def open_database(path: Path, migrations: Migrations = MIGRATIONS) -> sqlite3.Connection:
    """Open, check and migrate the journal; the connection may move between threads but serves one at a time.

    Raises SetupError for a file that is damaged or not a journal (it is left as it is), ConfigError for one that a
    newer version of qied wrote, sqlite3.Error and OSError where it cannot be read or written.
    """
    # SQLite gives its side files the mode of the main file, and would make that one readable by all.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
    try:
        _check(connection, path)
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA synchronous = FULL")
        # As in disk_sync: on macOS a sync reaches the disk itself only by these; elsewhere they change nothing.
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute("PRAGMA checkpoint_fullfsync = ON")
        connection.execute("PRAGMA foreign_keys = ON")
        _migrate(connection, path, migrations)
    except (sqlite3.Error, SetupError):
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> closing[sqlite3.Connection]:
    """A connection that cannot write, for one consistent read next to the writer."""
    return closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None))


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application != APPLICATION_ID:
        raise SetupError(f"{path} is a database of another program.", "Configure another state folder for qied.")
    problems = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
    if problems != ["ok"]:
        raise damaged(path, "; ".join("\n".join(problems).splitlines()))


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Migrations) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise ConfigError(
            f"{path} has version {version}, and this qied knows versions up to {len(migrations)}.",
            "Start the qied that wrote it, or a newer one, or configure another state folder.",
            path=str(path),
            version=version,
            known=len(migrations),
        )
    for number, statements in enumerate(migrations[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    for statement in _ADDITIONS:
        connection.execute(statement)
