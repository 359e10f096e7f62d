import asyncio
import dataclasses
import os
import random
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from qied_client.errors import (
    ConfigError,
    DiskFull,
    InternalError,
    SessionConflict,
    SetupError,
    ShuttingDown,
    UnknownSession,
    UnknownTurn,
)

from qied.server.journal.changes import (
    AcceptJob,
    AddTurn,
    Change,
    CloseSession,
    CountDeath,
    DisownBlob,
    ExpireBefore,
    Expired,
    ForgetTombstone,
    JobNote,
    MarkFetched,
    MoveHead,
    OpenSession,
    OwnBlob,
    ReleaseJob,
    SetPaused,
    StoreNote,
    StoreOutcome,
)
from qied.server.journal.errors import DuplicateJob
from qied.server.journal.journal import Journal
from qied.server.journal.schema import MIGRATIONS, open_database

SOURCE, RESULT = "a" * 64, "b" * 64


def accept(job: str = "one", order: int = 1, user: str = "ann", session: str | None = None) -> AcceptJob:
    return AcceptJob(user, job, order, f"hash of {job}", b"request", b"spec", session, None, None, (SOURCE,), 10.0)


def outcome(job: str = "one", user: str = "ann", finished_at: float = 20.0, seed: int = 7) -> StoreOutcome:
    return StoreOutcome(
        user, job, "succeeded", RESULT, 123, "image/png", seed, b"timings", None, None, None, finished_at
    )


def note(job: str = "one", user: str = "ann", finished_at: float = 20.0) -> JobNote:
    return JobNote(user, job, 1, "succeeded", "a red hat", 7, 10.0, finished_at, ("Few steps.", "No LoRA."))


async def turn_with_a_note(journal: Journal) -> None:
    await journal.apply(OpenSession("ann", "s", SOURCE, 1.0), accept(session="s"))
    await journal.apply(AddTurn("ann", "s", 1, "one", 0, 2.0))
    assert await journal.apply(outcome(), StoreNote(note(), b"jpeg")) == (True, True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.sqlite3"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    journal = Journal.open(path)
    yield journal
    await journal.close()


async def reopened(journal: Journal, path: Path) -> Journal:
    await journal.close()
    return Journal.open(path)


async def write_and_close(path: Path, changes: Sequence[Change]) -> None:
    journal = Journal.open(path)
    await journal.apply(*changes)
    await journal.close()


async def test_a_pause_is_known_after_a_restart_until_it_ends(journal: Journal, path: Path) -> None:
    assert not journal.load().paused
    assert await journal.apply(SetPaused(True), SetPaused(True)) == (True, False)
    again = await reopened(journal, path)
    assert again.load().paused
    assert await again.apply(SetPaused(False)) == (True,)
    assert not again.load().paused
    await again.close()


class TestJobs:
    async def test_come_back_after_a_restart_as_they_were_accepted(self, journal: Journal, path: Path) -> None:
        await journal.apply(accept("second", 8), accept("first", 3))
        again = await reopened(journal, path)
        jobs = again.load().jobs
        await again.close()
        assert [job.accepted for job in jobs.values()] == [accept("first", 3), accept("second", 8)]
        assert [job.outcome for job in jobs.values()] == [None, None]

    async def test_of_one_id_are_accepted_once(self, journal: Journal) -> None:
        await journal.apply(accept())
        with pytest.raises(DuplicateJob) as refused:
            await journal.apply(OwnBlob("ann", RESULT, 1, 1.0), accept(order=2))
        assert not refused.value.released
        assert journal.load().owners == {}
        assert journal.load().jobs["ann", "one"].accepted == accept()

    async def test_of_two_users_may_share_an_id(self, journal: Journal) -> None:
        await journal.apply(accept(user="ann"), accept(user="bob", order=2))
        assert set(journal.load().jobs) == {("ann", "one"), ("bob", "one")}

    async def test_may_not_share_a_place_in_the_order(self, journal: Journal) -> None:
        await journal.apply(accept("one", 1))
        with pytest.raises(InternalError):
            await journal.apply(accept("two", 1))

    async def test_keep_count_of_deaths(self, journal: Journal) -> None:
        await journal.apply(accept())
        assert await journal.apply(CountDeath("ann", "one", 1, 2), CountDeath("ann", "other", 1, 1)) == (True, False)
        stored = journal.load().jobs["ann", "one"]
        assert (stored.deaths, stored.requeues) == (1, 2)

    async def test_end_in_exactly_one_outcome(self, journal: Journal) -> None:
        await journal.apply(accept())
        assert await journal.apply(outcome()) == (True,)
        cancelled = dataclasses.replace(outcome(), state="cancelled", result_blob=None)
        assert await journal.apply(cancelled) == (False,)
        assert journal.load().jobs["ann", "one"].outcome == outcome()

    async def test_that_are_unknown_get_no_outcome(self, journal: Journal) -> None:
        assert await journal.apply(outcome("never")) == (False,)

    async def test_released_are_gone_but_their_id_stays_taken(self, journal: Journal) -> None:
        await journal.apply(accept(), outcome())
        assert await journal.apply(ReleaseJob("ann", "one", 30.0)) == (True,)
        state = journal.load()
        assert state.jobs == {}
        assert state.tombstones["ann", "one"].payload_hash == "hash of one"
        with pytest.raises(DuplicateJob) as refused:
            await journal.apply(accept(order=2))
        assert refused.value.released
        assert await journal.apply(outcome(), ReleaseJob("ann", "one", 31.0)) == (False, False)

    async def test_released_can_be_forgotten_and_the_rest_comes_back_in_the_order_of_release(
        self, journal: Journal
    ) -> None:
        for order, (name, released_at) in enumerate({"one": 33.0, "two": 31.0, "three": 32.0}.items()):
            await journal.apply(accept(name, order), outcome(name), ReleaseJob("ann", name, released_at))
        assert await journal.apply(ForgetTombstone("ann", "three"), ForgetTombstone("ann", "four")) == (True, False)
        assert list(journal.load().tombstones) == [("ann", "two"), ("ann", "one")]
        assert await journal.apply(accept("three", 9)) == (True,)

    async def test_cannot_be_released_before_their_outcome(self, journal: Journal) -> None:
        await journal.apply(accept())
        assert await journal.apply(ReleaseJob("ann", "one", 30.0)) == (False,)
        assert ("ann", "one") in journal.load().jobs

    async def test_never_get_an_order_number_again(self, journal: Journal, path: Path) -> None:
        assert journal.next_order == 1
        await journal.apply(accept(order=41), outcome(), ReleaseJob("ann", "one", 30.0))
        again = await reopened(journal, path)
        assert (again.next_order, again.incarnation) == (42, journal.incarnation + 1)
        await again.close()


class TestSessions:
    async def test_keep_their_turns_and_the_place_where_the_next_edit_starts(self, journal: Journal) -> None:
        await journal.apply(OpenSession("ann", "s", SOURCE, 1.0), accept("one", 1), accept("two", 2))
        await journal.apply(AddTurn("ann", "s", 1, "one", 0, 2.0), AddTurn("ann", "s", 2, "two", 1, 3.0))
        assert journal.load().sessions["ann", "s"].head == 2
        await journal.apply(MoveHead("ann", "s", 0, 4.0))
        session = journal.load().sessions["ann", "s"]
        assert (session.head, session.used_at, session.source_blob) == (0, 4.0, SOURCE)
        assert [(turn.turn, turn.job, turn.base) for turn in session.turns] == [(1, "one", 0), (2, "two", 1)]

    async def test_keep_a_turns_picture_when_its_job_is_released(self, journal: Journal) -> None:
        await journal.apply(OpenSession("ann", "s", SOURCE, 1.0), accept(session="s"))
        await journal.apply(AddTurn("ann", "s", 1, "one", 0, 2.0))
        await journal.apply(outcome())
        await journal.apply(ReleaseJob("ann", "one", 30.0))
        session = journal.load().sessions["ann", "s"]
        assert session.turns[0].result_blob == RESULT
        assert session.used_at == outcome().finished_at
        assert session.source_blob == SOURCE

    async def test_stay_on_their_picture(self, journal: Journal) -> None:
        assert await journal.apply(OpenSession("ann", "s", SOURCE, 1.0)) == (True,)
        assert await journal.apply(OpenSession("ann", "s", SOURCE, 2.0)) == (False,)
        with pytest.raises(SessionConflict):
            await journal.apply(OpenSession("ann", "s", RESULT, 2.0))

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            (MoveHead("ann", "s", 3, 2.0), UnknownTurn),
            (AddTurn("ann", "s", 1, "one", 3, 2.0), UnknownTurn),
            (MoveHead("bob", "s", 0, 2.0), UnknownSession),
            (AddTurn("bob", "s", 1, "one", 0, 2.0), UnknownSession),
        ],
    )
    async def test_refuse_what_they_do_not_have(self, journal: Journal, change: Change, error: type[Exception]) -> None:
        await journal.apply(OpenSession("ann", "s", SOURCE, 1.0))
        with pytest.raises(error):
            await journal.apply(change)
        session = journal.load().sessions["ann", "s"]
        assert (session.head, session.turns, session.used_at) == (0, (), 1.0)

    async def test_are_closed_with_their_turns_and_without_their_jobs(self, journal: Journal) -> None:
        await journal.apply(OpenSession("ann", "s", SOURCE, 1.0), accept(session="s"))
        await journal.apply(AddTurn("ann", "s", 1, "one", 0, 2.0))
        assert await journal.apply(CloseSession("ann", "s"), CloseSession("ann", "s")) == (True, False)
        await journal.apply(OpenSession("ann", "s", RESULT, 3.0))
        assert journal.load().sessions["ann", "s"].turns == ()
        assert ("ann", "one") in journal.load().jobs


async def test_a_blob_is_owned_until_it_is_disowned(journal: Journal) -> None:
    await journal.apply(OwnBlob("ann", SOURCE, 5, 1.0), OwnBlob("ann", SOURCE, 5, 2.0), OwnBlob("bob", SOURCE, 5, 3.0))
    assert journal.load().owners["ann", SOURCE] == OwnBlob("ann", SOURCE, 5, 2.0)
    assert await journal.apply(DisownBlob("ann", SOURCE), DisownBlob("ann", SOURCE)) == (True, False)
    assert set(journal.load().owners) == {("bob", SOURCE)}


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


class TestGroupCommit:
    async def test_gives_each_of_many_waiting_calls_its_own_answer(self, journal: Journal) -> None:
        calls = [journal.apply(accept(f"job {number // 2}", number + 1)) for number in range(100)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert answers[0::2] == [(True,)] * 50
        assert all(isinstance(answer, DuplicateJob) for answer in answers[1::2])
        assert len(journal.load().jobs) == 50

    async def test_undoes_a_failing_call_and_keeps_its_neighbours(self, journal: Journal) -> None:
        unstorable = accept("two", 2**70)
        answers = await asyncio.gather(
            journal.apply(accept("one", 1)),
            journal.apply(OwnBlob("ann", RESULT, 1, 1.0), unstorable),
            journal.apply(accept("three", 3)),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [tuple, InternalError, tuple]
        assert set(journal.load().jobs) == {("ann", "one"), ("ann", "three")}
        assert journal.load().owners == {}

    async def test_carries_out_a_call_whose_waiting_was_cancelled(self, journal: Journal, path: Path) -> None:
        call = asyncio.create_task(journal.apply(accept()))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        again = await reopened(journal, path)
        assert ("ann", "one") in again.load().jobs
        await again.close()

    async def test_answers_the_neighbours_of_a_call_that_was_cancelled(self, journal: Journal) -> None:
        calls = [asyncio.create_task(journal.apply(accept(str(number), number + 1))) for number in range(10)]
        await asyncio.sleep(0)
        calls[0].cancel()
        calls[4].cancel()
        answers = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)
        assert [type(answer) for answer in answers].count(asyncio.CancelledError) == 2
        assert answers.count((True,)) == 8
        assert len(journal.load().jobs) == 10

    async def test_stores_at_closing_what_is_on_its_way_and_takes_nothing_after(
        self, journal: Journal, path: Path
    ) -> None:
        calls = [asyncio.create_task(journal.apply(accept(str(number), number))) for number in range(20)]
        await asyncio.sleep(0)
        await asyncio.gather(journal.close(), journal.close())
        assert await asyncio.gather(*calls) == [(True,)] * 20
        with pytest.raises(ShuttingDown):
            await journal.apply(accept("late", 99))
        with closing(sqlite3.connect(path)) as look:
            assert look.execute("SELECT count(*) FROM jobs").fetchone() == (20,)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    async def test_leaves_nobody_waiting_for_a_writer_that_died(
        self, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die(*_: object) -> None:
            raise KeyError("a defect")

        monkeypatch.setattr("qied.server.journal.statements.execute", die)
        with pytest.raises(InternalError):
            await asyncio.wait_for(journal.apply(accept()), 10)
        with pytest.raises(ShuttingDown):
            await journal.apply(accept())


class TestOpening:
    async def test_keeps_the_files_to_their_owner(self, journal: Journal, path: Path) -> None:
        await journal.apply(accept())
        files = list(path.parent.iterdir())
        assert {file.suffix for file in files} >= {".sqlite3", ".sqlite3-wal", ".lock"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    async def test_is_refused_to_a_second_daemon_by_the_first_ones_process_id(
        self, journal: Journal, path: Path
    ) -> None:
        code = (
            "from pathlib import Path\nfrom qied.server.journal.journal import Journal\n"
            f"Journal.open(Path({str(path)!r}))"
        )
        start = partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True)
        second = await asyncio.to_thread(start)
        assert second.returncode == 1
        assert f"ConfigError: Another daemon (process {os.getpid()})" in second.stderr
        await journal.close()
        third = await asyncio.to_thread(start)
        assert third.returncode == 0, third.stderr

    async def test_refuses_a_journal_of_a_newer_version_and_names_it(self, journal: Journal, path: Path) -> None:
        await journal.close()
        with closing(sqlite3.connect(path)) as newer:
            newer.execute("PRAGMA user_version = 77")
        with pytest.raises(ConfigError, match="version 77"):
            Journal.open(path)

    async def test_migrates_an_older_journal_and_keeps_what_is_in_it(self, journal: Journal, path: Path) -> None:
        await journal.apply(accept())
        await journal.close()
        more = (*MIGRATIONS, ("ALTER TABLE jobs ADD COLUMN note TEXT NOT NULL DEFAULT 'none'",))
        with closing(open_database(path, more)) as migrated:
            assert migrated.execute("SELECT job, note FROM jobs").fetchall() == [("one", "none")]
            assert migrated.execute("PRAGMA user_version").fetchone() == (len(more),)

    async def test_takes_no_half_of_a_migration(self, journal: Journal, path: Path) -> None:
        await journal.close()
        broken = (*MIGRATIONS, ("ALTER TABLE jobs ADD COLUMN note TEXT", "SELECT nonsense"))
        with pytest.raises(sqlite3.OperationalError):
            open_database(path, broken)
        with closing(open_database(path)) as same:
            assert "note" not in [row[1] for row in same.execute("PRAGMA table_info(jobs)")]

    @pytest.mark.parametrize("damaged_from", [0, 8192])
    def test_refuses_a_damaged_file_and_leaves_it_as_it_is(self, path: Path, damaged_from: int) -> None:
        asyncio.run(write_and_close(path, [accept(str(number), number) for number in range(1, 200)]))
        whole = path.read_bytes()
        broken = whole[:damaged_from] + bytes([0xA5]) * 8192 + whole[damaged_from + 8192 :]
        path.write_bytes(broken)
        with pytest.raises(SetupError, match=r"damaged.* move it aside") as refused:
            Journal.open(path)
        assert not isinstance(refused.value, ConfigError)
        assert path.read_bytes() == broken
        path.write_bytes(whole)
        asyncio.run(write_and_close(path, []))

    def test_leaves_another_programs_database_alone(self, path: Path) -> None:
        path.parent.mkdir()
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE theirs (x)")
        before = path.read_bytes()
        with pytest.raises(SetupError, match="another program"):
            Journal.open(path)
        assert path.read_bytes() == before

    def test_says_where_it_may_not_write(self, path: Path) -> None:
        path.mkdir(parents=True)
        with pytest.raises(SetupError, match="cannot be opened"):
            Journal.open(path)


WRITER = """
    import asyncio, itertools, sys
    from pathlib import Path
    from qied.server.journal.journal import Journal
    from qied.server.journal.changes import *

    async def keep_writing(journal, name):
        for number in itertools.count():
            job = f"{name}.{number}"
            order = journal.next_order + number * 8 + int(name[-1])
            await journal.apply(
                AcceptJob("ann", job, order, "h", bytes(200), bytes(100), job, 1, None, ("a", "b"), 1.0),
                OpenSession("ann", job, "a", 1.0),
                AddTurn("ann", job, 1, job, 0, 1.0),
            )
            print("accepted", job, flush=True)
            await journal.apply(
                StoreOutcome("ann", job, "succeeded", "r", 1, "image/png", 1, b"", None, None, None, 2.0),
                OwnBlob("ann", job, 1, 1.0),
            )
            print("ended", job, flush=True)

    async def main():
        journal = Journal.open(Path(sys.argv[1]))
        print("opened", journal.incarnation, flush=True)
        await asyncio.gather(*(keep_writing(journal, f"{journal.incarnation}-{n}") for n in range(8)))

    asyncio.run(main())
"""


def run_writer(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def test_what_was_acknowledged_survives_sigkill_at_any_moment_and_nothing_is_half(path: Path) -> None:
    acknowledged: dict[str, set[str]] = {"accepted": set(), "ended": set(), "opened": set()}
    lines_before_the_kill = random.Random(7)
    for _ in range(6):
        with run_writer(path) as writer:
            assert writer.stdout is not None
            for _ in range(lines_before_the_kill.randrange(2, 400)):
                event, name = writer.stdout.readline().split()
                acknowledged[event].add(name)
            writer.kill()
            for line in writer.stdout:
                if line.endswith("\n"):
                    event, name = line.split()
                    acknowledged[event].add(name)
        journal = Journal.open(path)
        state = journal.load()
        await journal.close()
        accepted = {job for _, job in state.jobs}
        ended = {job for (_, job), stored in state.jobs.items() if stored.outcome}
        assert acknowledged["accepted"] <= accepted
        assert acknowledged["ended"] <= ended
        assert {name for (_, name), session in state.sessions.items() if len(session.turns) == 1} == accepted
        assert all(stored.accepted.blobs == ("a", "b") for stored in state.jobs.values())
        assert {name for _, name in state.owners} == ended
    assert len(acknowledged["opened"]) == 6


FILLER = """
    import asyncio, resource, sys
    from pathlib import Path
    from qied.server.journal.journal import Journal
    from qied.server.journal.changes import *
    from qied_client.errors import DiskFull

    def accept(number, size):
        return AcceptJob("ann", str(number), number, "h", bytes(size), b"", None, None, None, (), 1.0)

    async def main():
        journal = Journal.open(Path(sys.argv[1]))
        await journal.apply(accept(1, 100))
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        together = [journal.apply(accept(2, 100)), journal.apply(accept(3, 1_000_000)), journal.apply(accept(4, 100))]
        answers = await asyncio.gather(*together, return_exceptions=True)
        assert [type(answer) for answer in answers] == [tuple, DiskFull, tuple], answers
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await journal.apply(accept(3, 1_000_000))
        assert [job for _, job in journal.load().jobs] == ["1", "2", "3", "4"]
        await journal.close()

    asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_a_write_that_fails_costs_only_its_own_call_and_works_again_later(path: Path) -> None:
    subprocess.run([sys.executable, "-c", textwrap.dedent(FILLER), str(path)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system needs root on Linux")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk_is_reported_and_nothing_of_the_call_stays(small_disk: Path) -> None:
    journal = Journal.open(small_disk / "journal.sqlite3")
    filler = small_disk / "filler"
    await journal.apply(accept("before", 1))
    filler.write_bytes(bytes(700_000))
    large = dataclasses.replace(accept("large", 2), request=bytes(400_000))
    with pytest.raises(DiskFull, match="journal"):
        await journal.apply(OwnBlob("ann", RESULT, 1, 1.0), large)
    assert set(journal.load().jobs) == {("ann", "before")}
    assert journal.load().owners == {}
    filler.unlink()
    await journal.apply(large)
    await journal.close()
    again = Journal.open(small_disk / "journal.sqlite3")
    assert set(again.load().jobs) == {("ann", "before"), ("ann", "large")}
    await again.close()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("synchronous", 2), ("fullfsync", 1), ("checkpoint_fullfsync", 1), ("journal_mode", "wal"), ("foreign_keys", 1)],
)
async def test_each_commit_is_on_the_disk_itself_before_it_counts(
    journal: Journal, setting: str, value: int | str
) -> None:
    found = await journal._writer.submit(lambda connection: connection.execute(f"PRAGMA {setting}").fetchone())
    assert found == (value,)


async def test_each_commit_is_timed_also_one_of_a_refused_call(path: Path) -> None:
    seconds: list[float] = []
    journal = Journal.open(path, seconds.append)
    await journal.apply(accept())
    with pytest.raises(DuplicateJob):
        await journal.apply(accept())
    await journal.apply(SetPaused(True))
    assert len(seconds) == 3 and min(seconds) > 0
    await journal.close()


async def test_a_loop_that_is_gone_does_not_hurt_the_writer(path: Path) -> None:
    async def accept_and_walk_away() -> Journal:
        journal = Journal.open(path)
        call = asyncio.ensure_future(journal.apply(accept()))
        await asyncio.sleep(0)
        call.cancel()
        return journal

    journal = await asyncio.to_thread(asyncio.run, accept_and_walk_away())
    await journal.apply(accept("two", 2))
    assert set(journal.load().jobs) == {("ann", "one"), ("ann", "two")}
    await journal.close()
