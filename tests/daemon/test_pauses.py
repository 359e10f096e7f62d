"""Whoever is stopped for a while, and goes on: nobody is blamed for it, and no work is lost."""

from __future__ import annotations

import os
import signal
import threading

import pytest


def pause(seconds: float, *pids: int) -> None:
    """Stop processes for so long, as Ctrl-Z, ``docker pause`` or a pause of a virtual machine does."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    threading.Event().wait(seconds)
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
def test_a_pause_of_front_and_worker_is_not_taken_for_a_worker_that_hangs(start_daemon, picture, tmp_path):
    gate = tmp_path / "gate"
    daemon = start_daemon(QIED_WORKER_STEP_TIMEOUT_S="4")
    with daemon.client(patience=60.0) as client:
        job = client.submit(picture, f"gate={gate}", seed=1, steps=2, width=64, height=48)
        daemon.wait_for("started", job=job.id)
        pause(5, daemon.pid, daemon.worker_pid)
        gate.touch()
        assert job.outcome().state == "succeeded"
    assert not [line for line in daemon.log if line.get("event") == "worker ended"]


@pytest.mark.slow
def test_a_worker_waits_for_a_front_that_is_stopped_and_goes_on_with_its_work(daemon, picture, tmp_path):
    gate = tmp_path / "gate"
    with daemon.client(patience=60.0) as client:
        job = client.submit(picture, f"gate={gate}", seed=1, steps=2, width=64, height=48)
        daemon.wait_for("started", job=job.id)
        pause(12, daemon.pid)
        gate.touch()
        assert job.outcome().state == "succeeded"
    assert not [line for line in daemon.log if line.get("event") == "worker ended"]


@pytest.mark.slow
def test_a_worker_that_somebody_stopped_costs_its_job_nothing_but_time(start_daemon, picture, tmp_path):
    gate = tmp_path / "gate"
    daemon = start_daemon(QIED_WORKER_STEP_TIMEOUT_S="2")
    with daemon.client(patience=60.0) as client:
        job = client.submit(picture, f"gate={gate}", seed=1, steps=2, width=64, height=48)
        daemon.wait_for("started", job=job.id)
        os.kill(daemon.worker_pid, signal.SIGSTOP)
        assert daemon.wait_for("requeued", job=job.id)["deaths"] == 0
        gate.touch()
        assert job.outcome().state == "succeeded"


@pytest.mark.slow
def test_a_front_that_was_stopped_takes_no_client_for_silent(daemon):
    with daemon.client() as client:
        client.status()
        pause(9, daemon.pid)
        client.status()  # by a connection of the client's choice: to it the front was silent
    ended = [line for line in daemon.log if line.get("event") == "ended a connection"]
    assert not [line for line in ended if line["reason"] == "nothing was received from you"]
