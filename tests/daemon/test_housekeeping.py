"""What is old and unused goes; what a job, a result or a session needs stays, however old it is."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from qied_client.errors import UnknownJob, UnknownSession
from qied_client.protocol import messages as m
from qied_client.transfers import hash_of

from qied.server.blobs.store import BlobStore
from tests.daemon.conftest import DaemonProcess

MINUTE, HOUR = 60, 3600
_TIMES = {
    "jobs": ("accepted_at",),
    "outcomes": ("finished_at",),
    "sessions": ("opened_at", "used_at"),
    "blob_owners": ("stored_at",),
    "fetches": ("fetched_at",),
    "notes": ("accepted_at", "finished_at"),
}


def let_pass(home: Path, seconds: float) -> None:
    """Make everything in the state of a daemon that does not run older."""
    with closing(sqlite3.connect(home / "journal.db")) as journal:
        for table, columns in _TIMES.items():
            changes = ", ".join(f"{column} = {column} - {seconds}" for column in columns)
            journal.execute(f"UPDATE {table} SET {changes}")
        journal.commit()
    for path in (home / "blobs").rglob("*"):
        if path.is_file():
            when = path.stat().st_mtime - seconds
            os.utime(path, (when, when))


def start_and_sweep(daemon: DaemonProcess, **counts: int) -> None:
    """Start and see that just so much is swept away."""
    daemon.start_unready()
    swept = daemon.wait_for("swept")
    assert {name: swept[name] for name in counts} == counts
    daemon.wait_for("ready")


def is_stored(daemon: DaemonProcess, data: bytes) -> bool:
    digest = hash_of(data)
    return (daemon.home / "blobs" / digest[:2] / digest).exists()


@pytest.fixture
def pictures(make_picture) -> list[bytes]:
    return [make_picture(64, 48, (10 * number, 0, 0)) for number in range(6)]


def test_an_unused_upload_goes_and_pictures_of_jobs_results_and_sessions_stay(daemon, pictures, make_picture, tmp_path):
    unused, of_finished, of_waiting, of_session, *_ = pictures
    mask, gate = make_picture(64, 48, (255, 255, 255)), tmp_path / "gate"
    with daemon.client() as client, daemon.raw() as raw:
        raw.hello().upload(unused)
        finished = client.submit(of_finished, "x", seed=1, steps=1)
        result = finished.result().bytes
        session = client.session(of_session, name="ours")
        first = session.edit("x", seed=1, steps=1).bytes
        client.job(session.history()[0].job).release()
        waiting = client.submit(of_waiting, f"gate={gate}", seed=1, steps=1, mask=mask)
    daemon.kill()
    let_pass(daemon.home, 24 * HOUR)
    start_and_sweep(daemon, jobs=0, sessions=0, blobs=1)
    assert not is_stored(daemon, unused)
    assert all(is_stored(daemon, data) for data in (of_finished, result, of_waiting, mask, of_session, first))
    with daemon.client() as client, daemon.raw() as raw:
        assert isinstance(raw.hello().ask(lambda n: m.Put(n, hash_of(unused), len(unused))), m.Want)
        assert client.job(finished.id).result().bytes == result
        gate.touch()
        assert client.job(waiting.id).result(timeout=60).bytes
        session = client.take_up_session("ours")
        again = session.edit("y", seed=2, steps=1).bytes
        assert again == client.edit(first, "y", seed=2, steps=1).bytes
        session.undo()
        session.undo()
        assert session.edit("x", seed=1, steps=1).bytes == first


def test_results_and_sessions_go_when_their_time_is_over_and_what_waits_stays(daemon, pictures, tmp_path):
    of_finished, of_waiting, of_session, *_ = pictures
    gate = tmp_path / "gate"
    with daemon.client() as client:
        finished = client.submit(of_finished, "x", seed=1, steps=1)
        result = finished.result().bytes
        client.session(of_session, name="ours")
        waiting = client.submit(of_waiting, f"gate={gate}", seed=1, steps=1)
    daemon.kill()
    let_pass(daemon.home, 30 * 24 * HOUR)
    start_and_sweep(daemon, jobs=1, sessions=1, blobs=3)
    assert not any(is_stored(daemon, data) for data in (of_finished, result, of_session))
    with daemon.client() as client:
        with pytest.raises(UnknownJob):
            client.job(finished.id).result()
        with pytest.raises(UnknownSession):
            client.take_up_session("ours").history()
        gate.touch()
        assert client.job(waiting.id).result(timeout=60).bytes


def test_a_clock_that_is_ahead_at_the_start_deletes_nothing(daemon, pictures):
    of_finished, of_session, *_ = pictures
    with daemon.client() as client:
        finished = client.submit(of_finished, "x", seed=1, steps=1)
        result = finished.result().bytes
        client.session(of_session, name="ours")
    daemon.kill()
    let_pass(daemon.home, 30 * 24 * HOUR)
    with closing(sqlite3.connect(daemon.home / "journal.db")) as journal:
        journal.execute("UPDATE meta SET value = value - ? WHERE key = 'swept_at'", (30 * 24 * HOUR,))
        journal.commit()
    daemon.start_unready()
    daemon.wait_for("the system's clock is ahead of the last known time, so nothing expires by it for an hour")
    daemon.wait_for("ready")
    with daemon.client() as client:
        assert client.job(finished.id).result().bytes == result
        assert client.take_up_session("ours").history() == ()
    assert is_stored(daemon, of_finished)


def test_a_file_that_has_no_owner_yet_is_left_alone_for_ten_minutes(daemon):
    daemon.kill()
    store = BlobStore(daemon.home / "blobs", 1 << 30, 1 << 20, 0)
    store.put(b"abandoned")
    let_pass(daemon.home, 2 * MINUTE)
    store.put(b"on its way into the journal")
    let_pass(daemon.home, 9 * MINUTE)
    start_and_sweep(daemon, blobs=1)
    assert not is_stored(daemon, b"abandoned")
    assert is_stored(daemon, b"on its way into the journal")
