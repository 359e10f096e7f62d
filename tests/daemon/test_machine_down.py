"""A job that takes the machine down is not run for ever, and a daemon that is killed costs no job anything."""

from __future__ import annotations

import contextlib
import sqlite3
import threading

import pytest
from qied_client.errors import JobSetAside


def in_journal(home, statement: str) -> list[tuple[str]]:
    with contextlib.closing(sqlite3.connect(home / "journal.db")) as journal, journal:
        return journal.execute(statement).fetchall()


def running(daemon) -> str:
    """The next job that starts, once the journal knows it."""
    job = daemon.wait_for("started")["job"]
    waiting = threading.Event()
    while (job,) not in in_journal(daemon.home, "SELECT job FROM interruptions WHERE boot IS NOT NULL"):
        waiting.wait(0.02)
    return job


def crash(daemon, *, machine: bool) -> None:
    """End front and worker at once, and start again; of a crash of the machine only the journal's boot is made up."""
    daemon.kill()
    if machine:
        in_journal(daemon.home, "UPDATE interruptions SET boot = 'an earlier boot' WHERE boot IS NOT NULL")
    daemon.start_unready()


def submit(client, picture, job, prompt, **more):
    return client.submit(picture, prompt, seed=1, steps=2, width=64, height=48, job_id=job, **more)


@pytest.mark.slow
def test_a_job_under_which_the_machine_went_down_twice_is_set_aside_and_the_others_go_on(
    start_daemon, picture, tmp_path
):
    gate = tmp_path / "gate"
    daemon = start_daemon(QIED_WORKER_MAX_ACTIVE="1")
    with daemon.client(patience=60.0) as client:
        submit(client, picture, "bad", f"gate={gate}")
        submit(client, picture, "good", "calm")
        assert running(daemon) == "bad"
    crash(daemon, machine=True)
    assert running(daemon) == "bad"
    crash(daemon, machine=True)
    daemon.wait_for("ready")
    with daemon.client(patience=60.0) as client:
        outcome = client.job("bad").outcome()
        assert (outcome.state, outcome.code) == ("poisoned", "job_set_aside")
        assert "went down twice" in outcome.message and outcome.remedy
        with pytest.raises(JobSetAside):
            client.job("bad").result()
        assert client.job("good").outcome().state == "succeeded"
        client.job("bad").release()
        gate.touch()
        assert submit(client, picture, "once-more", f"gate={gate}").outcome().state == "succeeded"


@pytest.mark.slow
def test_kills_of_the_daemon_and_stops_set_nothing_aside_but_let_others_go_first(start_daemon, picture, tmp_path):
    gate = tmp_path / "gate"
    daemon = start_daemon(QIED_WORKER_MAX_ACTIVE="1", QIED_DAEMON_STOP_GRACE_S="0")
    with daemon.client(patience=60.0) as client:
        submit(client, picture, "long", f"gate={gate}")
        submit(client, picture, "other", f"gate={gate}")
    assert running(daemon) == "long"
    daemon.stop()
    daemon.start_unready()
    for _ in range(3):
        assert running(daemon) == "long"
        crash(daemon, machine=False)
    assert running(daemon) == "other"
    daemon.wait_for("ready")
    gate.touch()
    with daemon.client(patience=60.0) as client:
        assert [client.job(name).outcome().state for name in ("other", "long")] == ["succeeded"] * 2
