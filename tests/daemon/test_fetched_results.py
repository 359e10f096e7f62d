"""A result that its client has stays for a while, and is the first to go where its user's room runs out."""

from __future__ import annotations

import itertools
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from qied_client.protocol import messages as m
from qied_client.protocol.request import EditRequest
from qied_client.transfers import hash_of

from tests.daemon.conftest import DaemonProcess, RawClient
from tests.daemon.test_housekeeping import HOUR, let_pass

NAMES = (f"user{number}" for number in itertools.count())
STORE = 64 * 1024 * 1024
KIB = 1024


def wanted(blob: str, seed: int = 1, size: int = 64, prompt: str = "x") -> EditRequest:
    return EditRequest((blob,), prompt, seed=seed, steps=1, width=size, height=size)


def submit(raw: RawClient, job: str, blob: str, **fields: object) -> m.Message:
    request = wanted(blob, **fields)  # type: ignore[arg-type]
    return raw.ask(lambda n: m.Submit(n, job, request, request.payload_hash()))


def ended(raw: RawClient, job: str) -> m.Result:
    raw.send(m.Resume(raw.next_id(), job))
    while (result := raw.news(m.Result)).job != job:
        pass
    return result


def made(raw: RawClient, job: str, blob: str, **fields: object) -> m.Result:
    assert isinstance(submit(raw, job, blob, **fields), m.Accepted)
    result = ended(raw, job)
    assert result.state == "succeeded", result
    return result


def keep(raw: RawClient, job: str) -> None:
    assert raw.ask(lambda n: m.Release(n, job, keep=True)) == m.Released(raw._ids, job)


def fetch(raw: RawClient, job: str) -> m.Fetched | m.Failure:
    return raw.ask(lambda n: m.Fetch(n, job))


def jobs(raw: RawClient) -> list[str]:
    return [info.job for info in raw.ask(m.ListJobs).jobs]


def file_of(daemon: DaemonProcess, blob: str | None) -> Path:
    assert blob is not None
    return daemon.home / "blobs" / blob[:2] / blob


def test_the_same_submit_and_resume_give_a_fetched_result_again_also_after_kill_9(daemon, picture):
    with daemon.raw() as raw:
        blob = raw.hello().upload(picture)
        first = made(raw, "one", blob)
        keep(raw, "one")
    daemon.kill()
    daemon.start()
    with daemon.raw() as raw:
        raw.hello()
        assert fetch(raw, "one").info.fetched
        assert submit(raw, "one", blob).known
        again = ended(raw, "one")
        assert (again.blob, again.state) == (first.blob, "succeeded")
    assert len([line for line in daemon.log if line.get("event") == "started"]) == 1


def test_fetched_results_go_when_their_time_is_over_and_others_stay(daemon, picture):
    with daemon.raw() as raw:
        blob = raw.hello().upload(picture)
        results = {job: made(raw, job, blob, seed=seed) for seed, job in enumerate(("had", "not-had"))}
        keep(raw, "had")
    daemon.kill()
    let_pass(daemon.home, 50 * HOUR)
    daemon._environ["QIED_STORAGE_FETCHED_HOURS"] = "49"
    daemon.start_unready()
    assert daemon.wait_for("swept")["jobs"] == 1
    daemon.wait_for("ready")
    with daemon.raw() as raw:
        raw.hello()
        assert jobs(raw) == ["not-had"]
        gone = submit(raw, "had", blob, seed=0)
        assert (gone.code, "--seed 0" in gone.remedy, "picture is gone" in gone.message) == ("unknown_job", True, True)
    assert not file_of(daemon, results["had"].blob).exists()
    assert file_of(daemon, results["not-had"].blob).exists()


def test_a_clock_that_is_ahead_deletes_no_fetched_result(daemon, picture):
    with daemon.raw() as raw:
        blob = raw.hello().upload(picture)
        made(raw, "one", blob)
        keep(raw, "one")
    daemon.kill()
    let_pass(daemon.home, 50 * HOUR)
    with closing(sqlite3.connect(daemon.home / "journal.db")) as journal:
        journal.execute("UPDATE meta SET value = value - ? WHERE key = 'swept_at'", (50 * HOUR,))
        journal.commit()
    daemon._environ["QIED_STORAGE_FETCHED_HOURS"] = "49"
    daemon.start_unready()
    daemon.wait_for("the system's clock is ahead of the last known time, so nothing expires by it for an hour")
    daemon.wait_for("ready")
    with daemon.raw() as raw:
        assert jobs(raw.hello()) == ["one"]


def test_without_hours_keep_is_a_plain_release(start_daemon, picture):
    daemon = start_daemon(QIED_STORAGE_FETCHED_HOURS="0")
    with daemon.raw() as raw:
        blob = raw.hello().upload(picture)
        made(raw, "one", blob)
        keep(raw, "one")
        keep(raw, "one")
        assert (jobs(raw), fetch(raw, "one").code) == ([], "unknown_job")


@pytest.fixture(scope="module")
def cramped(daemon_process, tmp_path_factory):
    """A daemon in whose store a user has room for a few pictures."""
    share = str(9 * 64 * KIB / STORE)
    settings = {"QIED_STORAGE_BLOB_BYTES": str(STORE), "QIED_STORAGE_USER_SHARE": share}
    settings["QIED_LIMITS_JOBS_KEPT_PER_USER"] = "4"
    running = daemon_process(tmp_path_factory.mktemp("room") / "home", **settings).start()
    yield running
    running.kill()


@pytest.fixture
def raw(cramped):
    """A connection of a user of this test alone to the cramped daemon."""
    with cramped.raw(cramped.enrol(next(NAMES))) as raw:
        yield raw.hello()


def test_the_oldest_fetched_results_make_way_for_a_job(cramped, raw, picture):
    blob = raw.upload(picture)
    results = [made(raw, f"job-{number}", blob, seed=number) for number in range(4)]
    for number in (1, 0, 2):
        keep(raw, f"job-{number}")
    made(raw, "job-4", blob, seed=4)  # one too many are kept
    assert jobs(raw) == ["job-4", "job-3", "job-2", "job-0"]
    assert raw.ask(lambda n: m.Resume(n, "job-1")).code == "unknown_job"
    assert submit(raw, "job-1", blob, seed=1).code == "unknown_job"
    other = raw.upload(os.urandom(2 * 64 * KIB))  # no room for the next result but that of a fetched one
    made(raw, "job-5", blob, seed=5)
    assert jobs(raw) == ["job-5", "job-4", "job-3", "job-2"]
    assert [file_of(cramped, result.blob).exists() for result in (results[0], *results[2:])] == [False, True, True]
    assert file_of(cramped, other).exists()


def test_an_upload_takes_the_room_of_fetched_results_and_of_nothing_else(cramped, raw, picture):
    blob = raw.upload(picture)
    results = [made(raw, f"job-{number}", blob, seed=number) for number in range(4)]
    for number in (0, 1):
        keep(raw, f"job-{number}")
    room = 9 - 1 - 4
    data = os.urandom((room + 1) * 64 * KIB)
    assert raw.upload(data) == hash_of(data)
    assert jobs(raw) == ["job-3", "job-2", "job-1"]
    refused = raw.ask(lambda n: m.Put(n, hash_of(b"more"), 3 * 64 * KIB))
    assert (refused.code, refused.details["passes"]) == ("quota_exceeded", False)
    assert jobs(raw) == ["job-3", "job-2", "job-1"], "nothing is forgotten for what does not fit anyway"
    assert [file_of(cramped, result.blob).exists() for result in results] == [False, True, True, True]


def test_a_fetched_turn_stays_while_its_session_has_its_picture(raw, picture):
    blob = raw.upload(picture)
    raw.ask(lambda n: m.Open(n, "s", blob))
    turn = EditRequest((), "x", seed=1, steps=1, width=64, height=64)
    raw.ask(lambda n: m.Submit(n, "turn", turn, turn.payload_hash(), "s"))
    ended(raw, "turn")
    made(raw, "plain", blob, seed=2)
    keep(raw, "turn")
    keep(raw, "plain")
    raw.upload(os.urandom(7 * 64 * KIB - 100))
    assert jobs(raw) == ["turn"]


def test_a_picture_that_a_waiting_turn_needs_is_not_forgotten(start_daemon, picture, tmp_path):
    daemon, gate = start_daemon(QIED_LIMITS_JOBS_KEPT_PER_USER="1"), tmp_path / "gate"
    with daemon.raw() as raw:
        blob = raw.hello().upload(picture)
        raw.ask(lambda n: m.Open(n, "s", blob))
        first, second = (
            EditRequest((), prompt, seed=1, steps=1, width=64, height=64) for prompt in ("x", f"gate={gate}")
        )
        raw.ask(lambda n: m.Submit(n, "first", first, first.payload_hash(), "s"))
        raw.ask(lambda n: m.Submit(n, "second", second, second.payload_hash(), "s"))
        ended(raw, "first")
        keep(raw, "first")
        refused = submit(raw, "more", blob, seed=3)
        assert (refused.code, refused.details["setting"]) == ("quota_exceeded", "limits.jobs_kept_per_user")
        gate.touch()
        assert ended(raw, "second").state == "succeeded"
