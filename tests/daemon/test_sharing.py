"""The owner shares the workstation: the queue is paused, the model's memory is freed, the daemon stops when done."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest
from qied_client import Client
from qied_client.credentials import LOCAL_FILE
from qied_client.errors import Busy, NotPermitted, ShuttingDown, UnknownJob
from typer.testing import CliRunner

from qied.cli.main import command_line

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the daemon does not run there")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def _until(job, kind, note=None):
    return next(event for event in job.events() if event.kind == kind and note in (None, event.note))


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _wait_until_unloaded(daemon, pid):
    daemon.wait_for("unloaded")
    assert _is_gone(pid)


def _states(client):
    return [row.state for row in client.status().workers]


def test_the_model_is_unloaded_and_the_next_edit_brings_it_back(daemon, picture):
    with daemon.client() as client:
        session = client.session(picture)
        before = session.edit("x", seed=1, steps=2)
        first = daemon.worker_pid
        client.control("unload")
        _wait_until_unloaded(daemon, first)
        assert _states(client) == ["unloaded"]
        assert client.status().workers[0].restarts == 0
        job = session.submit("y", seed=2, steps=2)
        _until(job, "queued", "loading the model")
        assert job.result(timeout=60).bytes != before.bytes
        assert daemon.worker_pid != first
        assert _states(client) == ["ready"]
        client.control("load")
        assert not any(line["event"] == "worker ended" for line in daemon.log)


def test_an_idle_worker_is_unloaded_by_itself(start_daemon, picture):
    daemon = start_daemon(QIED_WORKER_IDLE_UNLOAD_S="1")
    with daemon.client() as client:
        _wait_until_unloaded(daemon, daemon.worker_pid)
        assert client.edit(picture, "x", steps=1, timeout=60).bytes
        _wait_until_unloaded(daemon, daemon.worker_pid)


def test_a_model_that_jobs_would_load_again_is_unloaded_only_once_the_queue_is_paused(daemon, picture, gate):
    with daemon.client() as client:
        job = client.submit(picture, f"gate={gate}", seed=1, steps=2)
        _until(job, "started")
        with pytest.raises(Busy) as refused:
            client.control("unload")
        assert "qied pause" in refused.value.remedy
        client.control("pause")
        client.control("unload")
        _wait_until_unloaded(daemon, daemon.worker_pid)
        _until(job, "queued", "paused by the owner")
        gate.touch()
        client.control("load")
        daemon.wait_for("worker ready")
        assert client.status().waiting == 1
        client.control("resume")
        assert job.result(timeout=60).bytes
        assert client.status().workers[0].restarts == 0


def test_unloading_while_the_engine_loads_and_again_at_once_leaves_one_worker(daemon, picture):
    with daemon.client() as client:
        for _ in range(3):
            client.control("unload")
            client.control("load")
        assert client.edit(picture, "x", steps=1, timeout=60).bytes
        started = [line["pid"] for line in daemon.log if line.get("event") == "worker started"]
        for pid in started[:-1]:
            while not _is_gone(pid):
                daemon.wait_for("unloaded")


def test_a_pause_lets_running_jobs_finish_holds_others_and_outlives_a_kill(start_daemon, picture, gate):
    daemon = start_daemon(QIED_LIMITS_JOBS_RUNNING_PER_USER="1")
    with daemon.client(patience=60) as client:
        running = client.submit(picture, f"gate={gate}", seed=1, steps=2)
        _until(running, "started")
        waiting = client.submit(picture, "x", seed=2, steps=2)
        client.control("pause")
        client.control("pause")
        _until(waiting, "queued", "paused by the owner")
        gate.touch()
        assert running.result(timeout=60).bytes
        late = client.submit(picture, "x", seed=3, steps=2)
        _until(late, "queued", "paused by the owner")
        assert (client.status().paused, client.status().waiting) == (True, 2)
        daemon.kill()
        daemon.start()
        assert (client.status().paused, client.status().waiting) == (True, 2)
        client.control("resume")
        assert waiting.result(timeout=60).bytes and late.result(timeout=60).bytes
        assert not client.status().paused


def test_serve_paused_holds_what_an_earlier_run_left(start_daemon, picture):
    daemon = start_daemon()
    with daemon.client(patience=60) as client:
        client.control("pause")
        job = client.submit(picture, "x", seed=1, steps=1)
        client.control("resume")
        assert job.result(timeout=60).bytes
        daemon.stop()
        daemon.arguments = ["--paused"]
        daemon.start()
        assert client.status().paused
        again = client.submit(picture, "x", seed=2, steps=1)
        daemon.stop()
        daemon.arguments = []
        daemon.start()
        assert client.status().paused
        client.control("resume")
        assert again.result(timeout=60).bytes


def test_stop_when_done_finishes_what_was_accepted_and_takes_nothing_more(start_daemon, picture, gate):
    daemon = start_daemon(QIED_LIMITS_JOBS_RUNNING_PER_USER="1")
    with daemon.client(patience=60, when_full="fail") as client:
        jobs = [client.submit(picture, f"gate={gate}", seed=seed, steps=2) for seed in range(3)]
        client.control("pause")
        with pytest.raises(Busy):
            client.control("stop_when_done")
        client.control("resume")
        assert client.control("stop_when_done").waiting == 2
        client.control("stop_when_done")
        with pytest.raises(ShuttingDown, match="then stops") as refused:
            client.submit(picture, "late", seed=9, steps=2)
        assert refused.value.remedy
        assert client.status().finishing
        gate.touch()
        assert all(job.result(timeout=60).bytes for job in jobs)
    assert daemon.wait() == 0
    assert next(line for line in daemon.log if line["event"] == "stopped")["requeued"] == 0


def test_stop_ends_the_daemon_as_a_signal_does(daemon):
    with daemon.client() as client:
        client.control("stop")
    assert daemon.wait() == 0
    assert any(line["event"] == "stopping" for line in daemon.log)


def test_the_owner_sees_and_cancels_the_jobs_of_others_and_nobody_else_does(daemon, picture, gate):
    key = daemon.enrol("ann")
    with closing(daemon.client()) as owner, closing(daemon.client(key)) as ann:
        job = ann.submit(picture, f"gate={gate}", seed=1, steps=2, job_id="hers")
        mine = owner.submit(picture, f"gate={gate}", seed=1, steps=2, job_id="mine")
        assert [row.job for row in owner.status().jobs if row.user == "ann"] == [None]
        assert [row.job for row in owner.status(everyone=True).jobs if row.user == "ann"] == ["hers"]
        for attempt in (
            lambda: ann.status(everyone=True),
            lambda: ann.cancel("mine", user="local"),
            *(lambda action=action: ann.control(action) for action in ("pause", "unload", "stop", "stop_when_done")),
        ):
            with pytest.raises(NotPermitted) as refused:
                attempt()
            assert refused.value.remedy
        with pytest.raises(UnknownJob, match="ann has"):
            owner.cancel("mine", user="ann")
        assert ann.cancel("hers", user="ann") == "cancelled"
        other = ann.submit(picture, f"gate={gate}", seed=2, steps=2, job_id="other")
        assert owner.cancel("other", user="ann") == "cancelled"
        assert "by the owner" in other.outcome().message
        assert "by the owner" not in job.outcome().message
        daemon.wait_for("the owner cancels a job", user="ann", job="other")
        gate.touch()
        assert mine.result(timeout=60).bytes


def test_an_urgent_job_overtakes_ones_own_batch(start_daemon, picture, gate):
    daemon = start_daemon(QIED_LIMITS_JOBS_RUNNING_PER_USER="1")
    with daemon.client(patience=60) as client:
        for number in range(3):
            client.submit(picture, f"gate={gate}", seed=number, steps=1, job_id=f"bulk{number}")
        client.submit(picture, "x", seed=9, steps=1, job_id="urgent", priority=10)
        daemon.kill()
        before = len(daemon.log)
        gate.touch()
        daemon.start()
        assert client.job("bulk2").result(timeout=60).bytes
        started = [line["job"] for line in daemon.log[before:] if line["event"] == "started"]
        assert started == ["urgent", "bulk0", "bulk1", "bulk2"]


def test_the_commands_say_what_they_did_and_refuse_others(daemon, picture, gate):
    key = daemon.enrol("ann")

    def run(*words, key=daemon.home / LOCAL_FILE):
        return CliRunner().invoke(command_line(), [*words, "--key", str(key)], env={"COLUMNS": "200"})

    with closing(daemon.client(key)) as ann:
        ann.submit(picture, f"gate={gate}", seed=1, steps=2, job_id="hers")
        assert run("pause").output == "paused: 1 running, 0 waiting\n"
        refused = run("resume", key=key)
        assert refused.exit_code == 1
        assert "not_permitted" in refused.output
        shown = run("ps", "--all").output
        assert "paused by the owner" in shown
        assert "hers" in shown
        assert "hers" not in run("ps").output
        assert run("cancel", "ann/hers").output == "ann/hers: cancelled\n"
        assert run("unload").output.startswith("unloaded")
        assert "unloaded" in run("ps").output
        assert run("load").exit_code == 0
        assert run("resume").output == "resumed: 0 running, 0 waiting\n"
        assert run("stop", "--when-done").output == "stops when done: 0 running, 0 waiting\n"
    assert daemon.wait() == 0


def test_one_user_never_takes_all_places_while_a_colleague_is_connected(start_daemon, picture, gate):
    daemon = start_daemon(QIED_WORKER_MAX_ACTIVE="3")
    with daemon.client() as client, Client(daemon.enrol("ann")) as colleague:
        colleague.status()
        jobs = [client.submit(picture, f"gate={gate}", seed=number, steps=2) for number in range(3)]
        _until(jobs[1], "started")
        assert jobs[2].status().place == 1
        edit = colleague.submit(picture, "x", steps=1)
        _until(edit, "started")
        assert jobs[2].status().place == 1
        gate.touch()
        assert edit.result(timeout=60).bytes
        assert all(job.result(timeout=60).bytes for job in jobs)
