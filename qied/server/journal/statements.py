"""Each change as SQL: what it does to the tables, and how the tables are read back."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from functools import singledispatch
from itertools import groupby

from qied_client.errors import SessionConflict, UnknownSession, UnknownTurn

from qied.server.journal.changes import (
    AcceptJob,
    AddTurn,
    CloseSession,
    CountDeath,
    CountInterruption,
    DisownBlob,
    ExpireBefore,
    Expired,
    ForgetRunning,
    ForgetTombstone,
    JobNote,
    JournalState,
    Key,
    MarkFetched,
    MarkRunning,
    MoveHead,
    OpenSession,
    OwnBlob,
    ReleaseJob,
    SetPaused,
    StoredJob,
    StoredSession,
    StoredTurn,
    StoreNote,
    StoreOutcome,
    Tombstone,
)
from qied.server.journal.errors import DuplicateJob
from qied.server.journal.stored_edit import pack_texts, texts_in

_UNFINISHED = """
    FROM jobs AS other LEFT JOIN outcomes AS ended USING (user, job)
    WHERE ended.job IS NULL AND other.user = {table}.user AND other.{reference} = {table}.{name}"""


@singledispatch
def execute(change: object, connection: sqlite3.Connection) -> bool:
    """Carry out one change inside the open transaction; returns whether it had an effect.

    Raises what the change's own docstring names, and sqlite3.Error.
    """
    raise TypeError(f"{type(change).__name__} is not a change of the journal")


@execute.register
def _accept_job(change: AcceptJob, connection: sqlite3.Connection) -> bool:
    key = (change.user, change.job)
    for table in ("jobs", "tombstones"):
        if connection.execute(f"SELECT 1 FROM {table} WHERE user = ? AND job = ?", key).fetchone():
            raise DuplicateJob(*key, released=table == "tombstones")
    connection.execute(
        """INSERT INTO jobs (user, job, order_number, payload_hash, request, spec, session, turn, depends_on,
            accepted_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            *key,
            change.order,
            change.payload_hash,
            change.request,
            change.spec,
            change.session,
            change.turn,
            change.depends_on,
            change.accepted_at,
        ),
    )
    connection.executemany(
        "INSERT INTO job_blobs VALUES (?, ?, ?, ?)", [(*key, place, blob) for place, blob in enumerate(change.blobs)]
    )
    connection.execute("UPDATE meta SET value = max(value, ?) WHERE key = 'last_order'", (change.order,))
    return True


@execute.register
def _count_death(change: CountDeath, connection: sqlite3.Connection) -> bool:
    counts = (change.deaths, change.requeues, change.user, change.job)
    connection.execute("UPDATE interruptions SET boot = NULL WHERE user = ? AND job = ?", (change.user, change.job))
    return _hit(connection, "UPDATE jobs SET deaths = ?, requeues = ? WHERE user = ? AND job = ?", counts)


@execute.register
def _mark_running(change: MarkRunning, connection: sqlite3.Connection) -> bool:
    marked = """INSERT INTO interruptions (user, job, boot) SELECT user, job, ? FROM jobs WHERE user = ? AND job = ?
        ON CONFLICT (user, job) DO UPDATE SET boot = excluded.boot"""
    return _hit(connection, marked, (change.boot, change.user, change.job))


@execute.register
def _count_interruption(change: CountInterruption, connection: sqlite3.Connection) -> bool:
    counted = "UPDATE interruptions SET boot = NULL, kills = ?, downs = ? WHERE user = ? AND job = ?"
    return _hit(connection, counted, (change.kills, change.downs, change.user, change.job))


@execute.register
def _forget_running(change: ForgetRunning, connection: sqlite3.Connection) -> bool:
    return _hit(connection, "UPDATE interruptions SET boot = NULL WHERE boot IS NOT NULL", ())


@execute.register
def _store_outcome(change: StoreOutcome, connection: sqlite3.Connection) -> bool:
    key = (change.user, change.job)
    row = (
        *key,
        change.state,
        change.result_blob,
        change.result_bytes,
        change.media_type,
        change.seed,
        change.timings,
        change.error_code,
        change.error_message,
        change.error_remedy,
        change.finished_at,
    )
    stored = _hit(
        connection,
        """INSERT INTO outcomes SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
            WHERE EXISTS (SELECT 1 FROM jobs WHERE user = ? AND job = ?) ON CONFLICT (user, job) DO NOTHING""",
        (*row, *key),
    )
    if stored:
        connection.execute("UPDATE turns SET result_blob = ? WHERE user = ? AND job = ?", (change.result_blob, *key))
        connection.execute(
            """UPDATE sessions SET used_at = max(used_at, ?)
                WHERE user = ? AND session IN (SELECT session FROM turns WHERE user = ? AND job = ?)""",
            (change.finished_at, change.user, *key),
        )
    return stored


@execute.register
def _store_note(change: StoreNote, connection: sqlite3.Connection) -> bool:
    note = change.note
    key = (note.user, note.job)
    row = (*key, note.number, note.state, note.prompt, note.seed, note.accepted_at, note.finished_at)
    return _hit(
        connection,
        """INSERT OR REPLACE INTO notes SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
            WHERE EXISTS (SELECT 1 FROM outcomes WHERE user = ? AND job = ? AND finished_at = ?)""",
        (*row, pack_texts(note.warnings), change.thumbnail, *key, note.finished_at),
    )


@execute.register
def _mark_fetched(change: MarkFetched, connection: sqlite3.Connection) -> bool:
    marked = """INSERT INTO fetches SELECT user, job, ? FROM outcomes WHERE user = ? AND job = ?
        ON CONFLICT (user, job) DO NOTHING"""
    return _hit(connection, marked, (change.fetched_at, change.user, change.job))


@execute.register
def _release_job(change: ReleaseJob, connection: sqlite3.Connection) -> bool:
    key = (change.user, change.job)
    left = _hit(
        connection,
        """INSERT INTO tombstones SELECT user, job, payload_hash, ? FROM jobs JOIN outcomes USING (user, job)
            WHERE user = ? AND job = ?""",
        (change.released_at, *key),
    )
    released = left and _hit(connection, "DELETE FROM jobs WHERE user = ? AND job = ?", key)
    _drop_notes(connection, [key])
    return released


def _drop_notes(connection: sqlite3.Connection, keys: Iterable[Key]) -> None:
    """Drop those of these notes to which neither a job nor a turn is left."""
    dropped = """DELETE FROM notes WHERE user = ? AND job = ?
        AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.user = notes.user AND jobs.job = notes.job)
        AND NOT EXISTS (SELECT 1 FROM turns WHERE turns.user = notes.user AND turns.job = notes.job)"""
    connection.executemany(dropped, keys)


@execute.register
def _forget_tombstone(change: ForgetTombstone, connection: sqlite3.Connection) -> bool:
    return _hit(connection, "DELETE FROM tombstones WHERE user = ? AND job = ?", (change.user, change.job))


@execute.register
def _open_session(change: OpenSession, connection: sqlite3.Connection) -> bool:
    opened = _hit(
        connection,
        "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT (user, session) DO NOTHING",
        (change.user, change.session, change.source_blob, change.opened_at, change.opened_at),
    )
    if not opened:
        found = "SELECT source_blob FROM sessions WHERE user = ? AND session = ?"
        (source,) = connection.execute(found, (change.user, change.session)).fetchone()
        if source != change.source_blob:
            raise SessionConflict(
                f"Session {change.session!r} is open on another picture.", "Choose another name, or close that one."
            )
    return opened


@execute.register
def _add_turn(change: AddTurn, connection: sqlite3.Connection) -> bool:
    _move_head(MoveHead(change.user, change.session, change.base, change.added_at), connection)
    connection.execute(
        "INSERT INTO turns VALUES (?, ?, ?, ?, ?, NULL)",
        (change.user, change.session, change.turn, change.job, change.base),
    )
    return _move_head(MoveHead(change.user, change.session, change.turn, change.added_at), connection)


@execute.register
def _move_head(change: MoveHead, connection: sqlite3.Connection) -> bool:
    key = (change.user, change.session)
    moved = "UPDATE sessions SET head = ?, used_at = max(used_at, ?) WHERE user = ? AND session = ?"
    if not _hit(connection, moved, (change.head, change.moved_at, *key)):
        raise UnknownSession(f"There is no session {change.session!r}.", "Open it first.")
    turn = "SELECT 1 FROM turns WHERE user = ? AND session = ? AND turn = ?"
    if change.head != 0 and not connection.execute(turn, (*key, change.head)).fetchone():
        raise UnknownTurn(f"Session {change.session!r} has no turn {change.head}.", "Name one of its turns.")
    return True


@execute.register
def _close_session(change: CloseSession, connection: sqlite3.Connection) -> bool:
    key = (change.user, change.session)
    turns = connection.execute("SELECT user, job FROM turns WHERE user = ? AND session = ?", key).fetchall()
    closed = _hit(connection, "DELETE FROM sessions WHERE user = ? AND session = ?", key)
    _drop_notes(connection, turns)
    return closed


@execute.register
def _own_blob(change: OwnBlob, connection: sqlite3.Connection) -> bool:
    owned = """INSERT INTO blob_owners VALUES (?, ?, ?, ?)
        ON CONFLICT (user, hash) DO UPDATE SET size = excluded.size, stored_at = excluded.stored_at"""
    return _hit(connection, owned, (change.user, change.hash, change.size, change.stored_at))


@execute.register
def _disown_blob(change: DisownBlob, connection: sqlite3.Connection) -> bool:
    return _hit(connection, "DELETE FROM blob_owners WHERE user = ? AND hash = ?", (change.user, change.hash))


@execute.register
def _set_paused(change: SetPaused, connection: sqlite3.Connection) -> bool:
    stored = """INSERT INTO meta VALUES ('paused', ?)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE value <> excluded.value"""
    return _hit(connection, stored, (int(change.paused),))


def execute_all(changes: Iterable[object], connection: sqlite3.Connection) -> tuple[bool, ...]:
    """Carry out ``changes`` in order; for each, whether it had an effect."""
    return tuple(execute(change, connection) for change in changes)


def expire(limits: ExpireBefore, connection: sqlite3.Connection) -> Expired:
    """Drop everything older than ``limits`` allow, inside the open transaction."""
    tombstones = _keys(connection, "SELECT user, job FROM tombstones WHERE released_at < ?", limits.released_before)
    connection.execute("DELETE FROM tombstones WHERE released_at < ?", (limits.released_before,))
    needed = _UNFINISHED.format(table="outcomes", reference="depends_on", name="job")
    finished = f"""SELECT user, job FROM outcomes LEFT JOIN fetches USING (user, job)
        WHERE (finished_at < ? OR fetched_at < ?) AND NOT EXISTS (SELECT 1 {needed})
        ORDER BY finished_at LIMIT {limits.most}"""
    jobs = _keys(connection, finished, limits.finished_before, limits.fetched_before)
    for user, job in jobs:
        _release_job(ReleaseJob(user, job, limits.now), connection)
    busy = _UNFINISHED.format(table="sessions", reference="session", name="session")
    idle = f"""SELECT user, session FROM sessions WHERE used_at < ? AND NOT EXISTS (SELECT 1 {busy})
        ORDER BY used_at LIMIT {limits.most}"""
    sessions = _keys(connection, idle, limits.sessions_idle_before)
    for user, session in sessions:
        _close_session(CloseSession(user, session), connection)
    connection.execute(
        "INSERT INTO meta VALUES ('swept_at', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (int(limits.now),),
    )
    return Expired(jobs, tombstones, sessions)


def load(connection: sqlite3.Connection) -> JournalState:
    """Read everything in one transaction of ``connection``."""
    connection.execute("BEGIN")
    owners = [OwnBlob(*row) for row in connection.execute("SELECT user, hash, size, stored_at FROM blob_owners")]
    dead = [Tombstone(*row) for row in connection.execute("SELECT * FROM tombstones ORDER BY released_at")]
    paused = connection.execute("SELECT value FROM meta WHERE key = 'paused'").fetchone()
    state = JournalState(
        jobs={(job.accepted.user, job.accepted.job): job for job in _jobs(connection)},
        sessions={(session.user, session.session): session for session in _sessions(connection)},
        owners={(owner.user, owner.hash): owner for owner in owners},
        tombstones={(tombstone.user, tombstone.job): tombstone for tombstone in dead},
        known_time=_known_time(connection),
        paused=paused is not None and bool(paused[0]),
    )
    connection.execute("COMMIT")
    return state


def _known_time(connection: sqlite3.Connection) -> float | None:
    """When expiry was looked at last; a journal from before that was noted has the newest of its other times."""
    noted = connection.execute("SELECT value FROM meta WHERE key = 'swept_at'").fetchone()
    if noted is not None:
        return float(noted[0])
    (newest,) = connection.execute(
        """SELECT max(at) FROM (
            SELECT max(accepted_at) AS at FROM jobs UNION ALL SELECT max(finished_at) FROM outcomes
            UNION ALL SELECT max(released_at) FROM tombstones UNION ALL SELECT max(used_at) FROM sessions
            UNION ALL SELECT max(stored_at) FROM blob_owners)"""
    ).fetchone()
    return None if newest is None else float(newest)


def _jobs(connection: sqlite3.Connection) -> Iterator[StoredJob]:
    rows = connection.execute("SELECT user, job, hash FROM job_blobs ORDER BY user, job, place")
    blobs = {key: tuple(row[2] for row in group) for key, group in groupby(rows, key=lambda row: (row[0], row[1]))}
    outcomes = {(row[0], row[1]): StoreOutcome(*row) for row in connection.execute("SELECT * FROM outcomes")}
    interrupted = {
        (user, job): counts
        for user, job, *counts in connection.execute("SELECT user, job, boot, kills, downs FROM interruptions")
    }
    fetched = {(user, job): at for user, job, at in connection.execute("SELECT user, job, fetched_at FROM fetches")}
    noted = connection.execute("SELECT user, job, warnings FROM notes WHERE warnings <> x''")
    warnings = {(user, job): texts_in(stored) for user, job, stored in noted}
    for *head, accepted_at, deaths, requeues in connection.execute(
        """SELECT user, job, order_number, payload_hash, request, spec, session, turn, depends_on, accepted_at, deaths,
            requeues FROM jobs ORDER BY order_number"""
    ):
        key = (head[0], head[1])
        accepted = AcceptJob(*(*head, blobs.get(key, ()), accepted_at))
        boot, kills, downs = interrupted.get(key, (None, 0, 0))
        yield StoredJob(
            accepted,
            deaths,
            requeues,
            outcomes.get(key),
            boot,
            kills,
            downs,
            fetched.get(key),
            warnings.get(key, ()) if key in outcomes else (),
        )


def read_notes(user: str, jobs: Collection[str], connection: sqlite3.Connection) -> dict[str, JobNote]:
    """The notes of these jobs of a user that there are, by job."""
    noted = """SELECT user, job, number, state, prompt, seed, accepted_at, finished_at, warnings FROM notes
        WHERE user = ? AND job = ?"""
    found = (connection.execute(noted, (user, job)).fetchone() for job in jobs)
    return {row[1]: JobNote(*(*row[:-1], texts_in(row[-1]))) for row in found if row is not None}


def read_thumbnail(user: str, job: str, connection: sqlite3.Connection) -> bytes:
    """The JPEG of a job's picture, or b""."""
    found = connection.execute("SELECT thumbnail FROM notes WHERE user = ? AND job = ?", (user, job)).fetchone()
    return b"" if found is None else bytes(found[0])


def _sessions(connection: sqlite3.Connection) -> Iterator[StoredSession]:
    rows = connection.execute("SELECT * FROM turns ORDER BY user, session, turn")
    turns = {
        key: tuple(StoredTurn(*row[2:]) for row in group)
        for key, group in groupby(rows, key=lambda row: (row[0], row[1]))
    }
    for row in connection.execute("SELECT user, session, source_blob, opened_at, used_at, head FROM sessions"):
        yield StoredSession(*(*row, turns.get((row[0], row[1]), ())))


def _hit(connection: sqlite3.Connection, statement: str, values: tuple[object, ...]) -> bool:
    return connection.execute(statement, values).rowcount > 0


def _keys(connection: sqlite3.Connection, statement: str, *ages: float) -> tuple[Key, ...]:
    return tuple((user, name) for user, name in connection.execute(statement, ages))
