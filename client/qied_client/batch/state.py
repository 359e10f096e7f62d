"""What a batch has done, in a SQLite file next to its results: killed at any time, it goes on where it was.

An edit's job id is its content's under the batch's own id, so one that was handed in before a kill is the same job
again. What is ``done`` has its files: it is noted only once they are on the disk under their names. A file is that of
the edit that took it last.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from qied_client.errors import InvalidRequest, SetupError
from qied_client.system_failures import what_helps

if TYPE_CHECKING:
    from typing_extensions import Self

FILE: Final = ".qied-batch.db"
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS edits (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, attempt INTEGER NOT NULL, job TEXT NOT NULL, fingerprint TEXT NOT NULL,
    facts TEXT NOT NULL, thumbnail BLOB NOT NULL, run INTEGER NOT NULL, position INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, key TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS edits_of_run ON edits (run, position);
"""


@dataclass(frozen=True)
class Entry:
    """One edit as it is noted: ``submitted``, ``done``, ``failed``, or ``unsaved``, where the daemon has its result.

    ``facts`` are for the report.
    """

    state: str
    attempt: int
    job: str
    fingerprint: str
    facts: dict[str, Any]


class BatchState:
    """The state of all batches whose results are in one folder. One process at a time may use it.

    Any thread may call it. Raises SetupError where the file cannot be used, InvalidRequest where another process does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=0.2, isolation_level=None, check_same_thread=False)
        except OSError as error:
            raise SetupError(f"{path.parent}: {error.strerror}.", what_helps(error)) from error
        except sqlite3.Error as error:
            raise SetupError(f"{path}: {error}.", "Choose a folder where files can be written.") from error
        try:
            self._open()
        except BaseException:
            self._db.close()
            raise

    def _open(self) -> None:
        try:
            # Held until the process ends, however it ends.
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("BEGIN EXCLUSIVE")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise SetupError(f"{self.path} is of a newer version of qied.", "Update qied, or use another folder.")
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {_VERSION}")
            values = (f"batch-{secrets.token_hex(5)}",)
            self._db.execute("INSERT OR IGNORE INTO facts VALUES ('batch', ?)", values)
            self._db.execute("INSERT OR IGNORE INTO facts VALUES ('run', '0')")
            self._db.execute("UPDATE facts SET value = value + 1 WHERE name = 'run'")
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise InvalidRequest(
                    f"{self.path}: another batch writes to this folder at the moment.",
                    "Wait for its end, or write to another folder.",
                    field="out",
                ) from error
            raise SetupError(f"{self.path}: {error}.", "Choose a folder where files can be written.") from error
        except sqlite3.DatabaseError as error:
            raise SetupError(
                f"{self.path} is not a batch's state: {error}.", "Move it away; edits that are done would run again."
            ) from error
        self.batch = self._fact("batch")
        self.run = int(self._fact("run"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another process use the file."""
        with self._lock, suppress(sqlite3.Error):
            self._db.close()

    def entry(self, key: str) -> Entry | None:
        """What is noted of an edit."""
        rows = self._ask("SELECT state, attempt, job, fingerprint, facts FROM edits WHERE key = ?", (key,))
        if not rows:
            return None
        state, attempt, job, fingerprint, facts = rows[0]
        return Entry(state, attempt, job, fingerprint, json.loads(facts))

    def note(self, key: str, position: int, entry: Entry, thumbnail: bytes = b"") -> None:
        """Note an edit of this run, durably; ``position`` orders it in the report."""
        facts = json.dumps(entry.facts)
        values = (key, entry.state, entry.attempt, entry.job, entry.fingerprint, facts, thumbnail, self.run, position)
        self._ask("INSERT OR REPLACE INTO edits VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def take(self, key: str, files: Iterable[str]) -> None:
        """Note durably, before they are written, whose files these are: an edit that had them has them no more."""
        for file in files:
            self._ask("INSERT OR REPLACE INTO files VALUES (?, ?)", (file, key))

    def has(self, key: str, files: Iterable[str]) -> bool:
        """Whether no other edit has taken any of these files since this one did."""
        owners = (self._ask("SELECT key FROM files WHERE path = ?", (file,)) for file in files)
        return all(rows in ([], [(key,)]) for rows in owners)

    def see(self, key: str, position: int) -> None:
        """Count an edit that was done before to this run's report."""
        self._ask("UPDATE edits SET run = ?, position = ? WHERE key = ?", (self.run, position, key))

    def unfinished(self, keys: Iterable[str]) -> bool:
        """Whether one of these edits was handed in before, and not all of them are done: the batch has begun."""
        begun = missing = False
        for key in keys:
            entry = self.entry(key)
            begun = begun or entry is not None
            missing = missing or entry is None or entry.state != "done"
            if begun and missing:
                return True
        return False

    def of_all_runs(self) -> Iterator[dict[str, Any]]:
        """The facts of all edits that are noted, of this run and of those before it, a few at a time."""
        key = ""
        while rows := self._ask("SELECT key, facts FROM edits WHERE key > ? ORDER BY key LIMIT 100", (key,)):
            yield from (json.loads(facts) for _, facts in rows)
            key = rows[-1][0]

    def done(self, key: str, fingerprint: str, files: Iterable[str]) -> bool:
        """Whether an edit of pictures with this fingerprint is done, and these files are still its own."""
        entry = self.entry(key)
        known = entry is not None and entry.state == "done" and entry.fingerprint == fingerprint
        return known and self.has(key, files)

    def facts(self) -> Iterator[dict[str, Any]]:
        """The facts of this run's edits, in their order, a few at a time."""
        for _, facts, _ in self._pages("facts"):
            yield json.loads(facts)

    def thumbnails(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Facts and thumbnail of each of this run's edits that is done and has one."""
        for _, facts, thumbnail in self._pages("thumbnail"):
            if thumbnail:
                yield json.loads(facts), bytes(thumbnail)

    def _pages(self, what: str) -> Iterator[tuple[int, str, bytes]]:
        position = -1
        column = "thumbnail" if what == "thumbnail" else "x''"
        while True:
            rows = self._ask(
                f"SELECT position, facts, {column} FROM edits WHERE run = ? AND position > ? AND state != 'submitted'"
                " ORDER BY position LIMIT 100",
                (self.run, position),
            )
            if not rows:
                return
            yield from rows
            position = rows[-1][0]

    def _fact(self, name: str) -> str:
        return str(self._ask("SELECT value FROM facts WHERE name = ?", (name,))[0][0])

    def _ask(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        with self._lock:
            try:
                return self._db.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise SetupError(
                    f"{self.path}: {error}.", "Free space on that disk, then repeat the command: it goes on."
                ) from error


def now() -> float:
    """Seconds since 1970, for the report."""
    return round(time.time(), 3)
