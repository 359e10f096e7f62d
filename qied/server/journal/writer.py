"""The one thread that writes the journal, with group commit: all calls that wait share one transaction and one sync."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from qied_client.errors import InternalError, QiedError, ShuttingDown

from qied.server.journal.errors import DuplicateJob, is_disk_failure, writing_failure

_Result = TypeVar("_Result")
Work = Callable[[sqlite3.Connection], object]
"""The work of one call inside the transaction; all of it takes effect, or none."""
OnCommit = Callable[[float], None]
"""Called with the seconds that a commit took with its sync, on the writer's thread."""


@dataclass(frozen=True)
class Settled:
    """How one call ended: its result, or the error that it gets."""

    result: object = None
    error: Exception | None = None


@dataclass(frozen=True)
class _Call:
    work: Work
    future: asyncio.Future[Any]


class JournalWriter:
    """Runs calls in order of arrival on its own thread, and resolves each one's future after the commit."""

    def __init__(self, connection: sqlite3.Connection, on_commit: OnCommit = lambda seconds: None) -> None:
        """Start the thread; it owns ``connection`` from now on, closes it at the end, and calls ``on_commit``."""
        self._connection = connection
        self._on_commit = on_commit
        self._waiting: list[_Call] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="qied-journal", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[sqlite3.Connection], _Result]) -> asyncio.Future[_Result]:
        """Queue ``work``; cancelling the future ends the waiting only, not the work. Raises ShuttingDown when closed.

        The future fails with DiskFull, with what ``work`` raised (QiedError, DuplicateJob), or with InternalError.
        """
        future: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._closing:
                raise ShuttingDown("The journal is closed.", "Wait until the daemon runs again.")
            self._waiting.append(_Call(work, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Write the queued calls, close the file and end the thread; blocks, and may be called again."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        calls: list[_Call] = []
        try:
            while calls := self._take():
                _deliver(calls, commit_group(self._connection, [call.work for call in calls], self._on_commit))
        finally:
            with self._changed:
                self._closing = True
                stranded, self._waiting = calls + self._waiting, []
            _deliver(stranded, [Settled(error=InternalError("The journal's writer has died."))] * len(stranded))
            self._connection.close()

    def _take(self) -> list[_Call]:
        """All waiting calls; empty when the writer is closed and has no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            calls, self._waiting = self._waiting, []
            return calls


def commit_group(
    connection: sqlite3.Connection, works: Sequence[Work], on_commit: OnCommit = lambda seconds: None
) -> list[Settled]:
    """Run ``works`` in one transaction, each in a savepoint of its own, and commit.

    Where the transaction as a whole fails, each one gets a transaction of its own, so that a call that is too large
    for the disk does not fail its neighbours.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        settled = [_in_savepoint(connection, work) for work in works]
        begun = time.perf_counter()
        connection.execute("COMMIT")
        on_commit(time.perf_counter() - begun)
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if len(works) == 1:
            return [Settled(error=_typed(error))]
        return [commit_group(connection, [work], on_commit)[0] for work in works]
    return settled


def _in_savepoint(connection: sqlite3.Connection, work: Work) -> Settled:
    connection.execute("SAVEPOINT call")
    try:
        settled = Settled(work(connection))
    except (QiedError, DuplicateJob) as error:
        settled = Settled(error=error)
    except (sqlite3.Error, TypeError, ValueError, OverflowError) as error:
        # A failing disk spoils the transaction; SQLite may have rolled all of it back, with the savepoint.
        if is_disk_failure(error) or not connection.in_transaction:
            raise
        settled = Settled(error=_typed(error))
    if settled.error is not None:
        connection.execute("ROLLBACK TO call")
    connection.execute("RELEASE call")
    return settled


def _typed(error: Exception) -> QiedError:
    failure = writing_failure(error)
    failure.__cause__ = error
    return failure


def _deliver(calls: Sequence[_Call], settled: Sequence[Settled]) -> None:
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Settled]]] = defaultdict(list)
    for call, outcome in zip(calls, settled, strict=True):
        by_loop[call.future.get_loop()].append((call.future, outcome))
    for loop, answers in by_loop.items():
        # A loop that is closed has nobody left who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, answers)


def _resolve(answers: Sequence[tuple[asyncio.Future[Any], Settled]]) -> None:
    for future, outcome in answers:
        if future.cancelled():
            continue
        if outcome.error is not None:
            future.set_exception(outcome.error)
        else:
            future.set_result(outcome.result)
