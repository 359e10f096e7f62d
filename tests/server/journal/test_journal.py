"""Jobs, sessions and blobs in the journal: what is written is what is read, also after a restart."""

import dataclasses
from pathlib import Path

import pytest
from qied_client.errors import (
    InternalError,
    SessionConflict,
    UnknownSession,
    UnknownTurn,
)

from qied.server.journal.changes import (
    AddTurn,
    Change,
    CloseSession,
    CountDeath,
    DisownBlob,
    ForgetTombstone,
    MoveHead,
    OpenSession,
    OwnBlob,
    ReleaseJob,
    SetPaused,
)
from qied.server.journal.errors import DuplicateJob
from qied.server.journal.journal import Journal
from tests.server.journal.journal_rows import RESULT, SOURCE, accept, outcome, reopened


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
