"""What expires, what was fetched, and the notes that stay of a job."""

import dataclasses
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from qied_client.errors import (
    InternalError,
)

from qied.server.journal.changes import (
    CloseSession,
    ExpireBefore,
    Expired,
    ForgetTombstone,
    MarkFetched,
    OpenSession,
    OwnBlob,
    ReleaseJob,
    StoreNote,
)
from qied.server.journal.journal import Journal
from tests.server.journal.journal_rows import SOURCE, accept, note, outcome, reopened, turn_with_a_note


class TestExpiry:
    async def test_drops_what_is_older_than_each_limit_and_says_what(self, journal: Journal) -> None:
        await journal.apply(accept("old", 1), accept("new", 2), accept("gone", 3), accept("running", 4))
        await journal.apply(outcome("old", finished_at=10.0), outcome("new", finished_at=20.0), outcome("gone"))
        await journal.apply(ReleaseJob("ann", "gone", 5.0))
        await journal.apply(OpenSession("ann", "idle", SOURCE, 7.0), OpenSession("ann", "busy", SOURCE, 19.0))
        dropped = await journal.expire(ExpireBefore(15.0, 6.0, 8.0, now=50.0))
        assert dropped == Expired((("ann", "old"),), (("ann", "gone"),), (("ann", "idle"),))
        state = journal.load()
        assert set(state.jobs) == {("ann", "new"), ("ann", "running")}
        assert set(state.sessions) == {("ann", "busy")}
        assert {key: tombstone.released_at for key, tombstone in state.tombstones.items()} == {("ann", "old"): 50.0}

    async def test_drops_only_so_many_at_once_the_oldest_first(self, journal: Journal) -> None:
        await journal.apply(*(accept(f"job {number}", number) for number in (1, 2, 3)))
        await journal.apply(*(outcome(f"job {number}", finished_at=20.0 - number) for number in (1, 2, 3)))
        few = ExpireBefore(99.0, 0.0, 0.0, now=100.0, most=2)
        assert (await journal.expire(few)).jobs == (("ann", "job 3"), ("ann", "job 2"))
        assert (await journal.expire(few)).jobs == (("ann", "job 1"),)

    async def test_notes_when_it_was_asked_for(self, journal: Journal, path: Path) -> None:
        assert journal.load().known_time is None
        await journal.apply(accept("one", 1), outcome("one", finished_at=70.0), OwnBlob("ann", SOURCE, 1, 60.0))
        assert journal.load().known_time == 70.0
        await journal.expire(ExpireBefore(0.0, 0.0, 0.0, now=50.0))
        again = await reopened(journal, path)
        assert again.load().known_time == 50.0
        await again.close()

    async def test_spares_what_an_unfinished_job_needs(self, journal: Journal) -> None:
        waiting = dataclasses.replace(accept("next", 2, session="s"), depends_on="base")
        await journal.apply(OpenSession("ann", "s", SOURCE, 1.0), accept("base", 1), waiting, outcome("base"))
        all_old = ExpireBefore(99.0, 99.0, 99.0, now=99.0)
        assert await journal.expire(all_old) == Expired((), (), ())
        await journal.apply(outcome("next"))
        assert await journal.expire(all_old) == Expired((("ann", "base"), ("ann", "next")), (), (("ann", "s"),))

    async def test_drops_what_was_fetched_long_ago_however_lately_it_ended(self, journal: Journal) -> None:
        for order, name in enumerate(("early", "late", "never")):
            await journal.apply(accept(name, order), outcome(name, finished_at=30.0))
        await journal.apply(MarkFetched("ann", "early", 31.0), MarkFetched("ann", "late", 40.0))
        limits = ExpireBefore(15.0, 0.0, 0.0, now=50.0, fetched_before=35.0)
        assert (await journal.expire(limits)).jobs == (("ann", "early"),)
        assert set(journal.load().jobs) == {("ann", "late"), ("ann", "never")}

    async def test_spares_a_fetched_job_that_an_unfinished_one_needs(self, journal: Journal) -> None:
        waiting = dataclasses.replace(accept("next", 2), depends_on="base")
        await journal.apply(accept("base", 1), waiting, outcome("base"), MarkFetched("ann", "base", 21.0))
        limits = ExpireBefore(0.0, 0.0, 0.0, now=99.0, fetched_before=99.0)
        assert (await journal.expire(limits)).jobs == ()
        await journal.apply(outcome("next"))
        assert (await journal.expire(limits)).jobs == (("ann", "base"),)


class TestFetchedMarks:
    async def test_come_back_after_a_restart_and_the_first_one_counts(self, journal: Journal, path: Path) -> None:
        await journal.apply(accept(), outcome())
        assert await journal.apply(MarkFetched("ann", "one", 21.0), MarkFetched("ann", "one", 22.0)) == (True, False)
        again = await reopened(journal, path)
        assert again.load().jobs["ann", "one"].fetched_at == 21.0
        await again.close()

    async def test_are_for_finished_jobs_and_go_with_them(self, journal: Journal) -> None:
        await journal.apply(accept())
        assert await journal.apply(MarkFetched("ann", "one", 21.0)) == (False,)
        await journal.apply(outcome(), MarkFetched("ann", "one", 21.0), ReleaseJob("ann", "one", 30.0))
        await journal.apply(ForgetTombstone("ann", "one"), accept(order=2), outcome())
        assert journal.load().jobs["ann", "one"].fetched_at is None


class TestNotes:
    async def test_tell_of_a_job_after_its_release_while_a_turn_is_left(self, journal: Journal, path: Path) -> None:
        await turn_with_a_note(journal)
        await journal.apply(ReleaseJob("ann", "one", 30.0))
        again = await reopened(journal, path)
        assert await again.notes("ann", ["one", "other"]) == {"one": note()}
        assert await again.thumbnail("ann", "one") == b"jpeg"
        assert (await again.notes("bob", ["one"]), await again.thumbnail("bob", "one")) == ({}, b"")
        await again.apply(CloseSession("ann", "s"))
        assert (await again.notes("ann", ["one"]), await again.thumbnail("ann", "one")) == ({}, b"")
        await again.close()

    async def test_stay_with_their_job_after_the_turn(self, journal: Journal) -> None:
        await turn_with_a_note(journal)
        await journal.apply(CloseSession("ann", "s"))
        assert await journal.notes("ann", ["one"]) == {"one": note()}
        assert journal.load().jobs["ann", "one"].warnings == note().warnings
        await journal.apply(ReleaseJob("ann", "one", 30.0))
        assert await journal.notes("ann", ["one"]) == {}

    async def test_go_with_a_session_and_a_job_that_expire(self, journal: Journal) -> None:
        await turn_with_a_note(journal)
        await journal.expire(ExpireBefore(99.0, 0.0, 0.0, now=100.0))
        assert await journal.notes("ann", ["one"]) == {"one": note()}
        await journal.expire(ExpireBefore(99.0, 0.0, 99.0, now=100.0))
        assert await journal.notes("ann", ["one"]) == {}

    async def test_are_of_the_outcome_that_counts(self, journal: Journal) -> None:
        await turn_with_a_note(journal)
        late = dataclasses.replace(outcome(finished_at=25.0), state="cancelled", result_blob=None)
        assert await journal.apply(late, StoreNote(note(finished_at=25.0), b"other")) == (False, False)
        assert await journal.thumbnail("ann", "one") == b"jpeg"
        assert await journal.apply(StoreNote(note("never"), b"")) == (False,)

    async def test_that_an_older_version_left_behind_go_at_the_next_start(self, journal: Journal, path: Path) -> None:
        await turn_with_a_note(journal)
        await journal.close()
        with closing(sqlite3.connect(path)) as older:
            older.execute("DELETE FROM jobs")
            older.commit()
        kept = Journal.open(path)
        assert await kept.notes("ann", ["one"]) == {"one": note()}
        await kept.close()
        with closing(sqlite3.connect(path)) as older:
            older.execute("DELETE FROM turns")
            older.commit()
        again = Journal.open(path)
        assert await again.notes("ann", ["one"]) == {}
        await again.close()

    async def test_are_missing_in_a_journal_of_before(self, journal: Journal, path: Path) -> None:
        await turn_with_a_note(journal)
        await journal.close()
        with closing(sqlite3.connect(path)) as older:
            older.executescript("DROP TABLE notes; DROP TABLE fetches;")
        again = Journal.open(path)
        stored = again.load().jobs["ann", "one"]
        assert (stored.fetched_at, stored.warnings, stored.outcome) == (None, (), outcome())
        assert await again.notes("ann", ["one"]) == {}
        await again.close()

    async def test_that_cannot_be_read_are_a_typed_error(self, journal: Journal, path: Path) -> None:
        await turn_with_a_note(journal)
        with closing(sqlite3.connect(path)) as other:
            other.execute("ALTER TABLE notes RENAME TO elsewhere")
        with pytest.raises(InternalError, match="could not be read"):
            await journal.notes("ann", ["one"])
