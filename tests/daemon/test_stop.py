"""Stopping: running jobs finish within the grace, waiting ones stay, and clients get theirs after the next start."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from qied_client.errors import ShuttingDown

GRACE = {"QIED_DAEMON_STOP_GRACE_S": "600"}
"""Longer than tests wait for the end of a daemon: one that ends did not wait for its grace to be over."""


@pytest.fixture
def gate(tmp_path):
    return tmp_path / "gate"


def _started(job):
    next(event for event in job.events() if event.kind == "started")
    return job


def _event(daemon, name):
    return next(line for line in daemon.log if line["event"] == name)


def _starts(daemon, job):
    return sum(line["event"] == "started" and line.get("job") == job.id for line in daemon.log)


def test_a_running_job_finishes_and_waiting_ones_run_after_the_next_start(start_daemon, picture, gate):
    daemon = start_daemon(QIED_LIMITS_JOBS_RUNNING_PER_USER="1", **GRACE)
    with daemon.client(patience=60, when_full="fail") as client, ThreadPoolExecutor() as threads:
        running = _started(client.submit(picture, f"gate={gate}", seed=1, steps=3))
        waiting = [client.submit(picture, "x", seed=seed, steps=2) for seed in (2, 3)]
        results = [threads.submit(job.result) for job in (running, *waiting)]
        port = daemon.key.read_text()
        daemon.signal(signal.SIGTERM)
        daemon.wait_for("stopping", running=1, waiting=2)
        with pytest.raises(ShuttingDown):
            client.submit(picture, "too late", steps=2)
        assert client.status().draining
        gate.touch()
        assert daemon.wait() == 0
        assert _event(daemon, "stopped")["requeued"] == 2
        assert _starts(daemon, running) == 1
        daemon.start()
        assert daemon.key.read_text() != port
        assert all(result.result(timeout=60).bytes for result in results)
        assert [_starts(daemon, job) for job in (running, *waiting)] == [1, 1, 1]


def test_an_idle_daemon_does_not_wait_for_its_grace(start_daemon):
    assert start_daemon(**GRACE).stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once_and_says_what_is_left(start_daemon, picture, gate, number):
    daemon = start_daemon(**GRACE)
    with daemon.client(patience=60) as client:
        job = _started(client.submit(picture, f"gate={gate}", seed=1, steps=3))
        worker = daemon.worker_pid
        daemon.signal(number)
        daemon.wait_for("stopping", running=1)
        daemon.signal(number)
        assert daemon.wait() == 0
        daemon.wait_for("second stop signal, stopping at once")
        assert _event(daemon, "stopped")["requeued"] == 1
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
        gate.touch()
        daemon.start()
        assert job.result(timeout=60).bytes


def test_a_job_that_outlasts_the_grace_runs_again_after_the_next_start(start_daemon, picture, gate):
    daemon = start_daemon(QIED_DAEMON_STOP_GRACE_S="0")
    with daemon.client(patience=60) as client:
        job = _started(client.submit(picture, f"gate={gate}", seed=1, steps=3))
        assert daemon.stop() == 0
        assert _event(daemon, "grace period is over")["requeued"] == 1
        gate.touch()
        daemon.start()
        assert job.result(timeout=60).bytes


def test_a_worker_that_dies_meanwhile_does_not_use_up_the_grace(start_daemon, picture, gate):
    daemon = start_daemon(**GRACE)
    with daemon.client(patience=60) as client:
        job = _started(client.submit(picture, f"gate={gate}", seed=1, steps=3))
        daemon.signal(signal.SIGTERM)
        daemon.wait_for("stopping", running=1)
        os.kill(daemon.worker_pid, signal.SIGKILL)
        assert daemon.wait() == 0
        gate.touch()
        daemon.start()
        assert job.result(timeout=60).bytes


def test_a_cancelled_job_does_not_use_up_the_grace(start_daemon, picture, gate):
    daemon = start_daemon(**GRACE)
    with daemon.client() as client:
        job = _started(client.submit(picture, f"gate={gate}", seed=1, steps=3))
        daemon.signal(signal.SIGTERM)
        daemon.wait_for("stopping", running=1)
        assert job.cancel() == "cancelled"
        assert daemon.wait() == 0


def test_a_daemon_that_is_told_to_stop_while_its_engine_loads_does_so(start_daemon, tmp_path):
    daemon = start_daemon()
    daemon.stop()
    daemon.start_unready()
    daemon.wait_for("worker started")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
