"""Ctrl-C reaches the whole process group of a terminal: the daemon decides, workers and jobs are not harmed."""

from __future__ import annotations

import os
import signal


def test_ctrl_c_lets_the_running_job_finish_and_blames_nobody(start_daemon, picture, tmp_path):
    daemon, gate = start_daemon(), tmp_path / "gate"
    with daemon.client(patience=60.0) as client:
        job = client.submit(picture, f"gate={gate}", seed=1, steps=3, width=64, height=48)
        daemon.wait_for("started", job=job.id)
        os.kill(daemon.worker_pid, signal.SIGINT)
        os.kill(daemon.worker_pid, signal.SIGTERM)
        daemon.signal(signal.SIGINT)
        daemon.wait_for("stopping")
        gate.touch()
        assert job.outcome().state == "succeeded"
    assert daemon.wait() == 0
    assert not any(line.get("event") in ("requeued", "worker ended") for line in daemon.log)


def test_a_result_can_be_fetched_while_the_daemon_stops(start_daemon, picture, tmp_path):
    daemon, gate = start_daemon(), tmp_path / "gate"
    with daemon.client(patience=0.5) as client:
        job = client.submit(picture, f"gate={gate}", seed=1, steps=3, width=64, height=48)
        daemon.wait_for("started", job=job.id)
        daemon.signal(signal.SIGTERM)
        daemon.wait_for("stopping")
        gate.touch()
        assert job.result().media_type == "image/png"
    assert daemon.wait() == 0


def test_a_cancelled_and_released_job_gives_its_place_back(start_daemon, picture, tmp_path):
    daemon = start_daemon(QIED_LIMITS_JOBS_RUNNING_PER_USER="1")
    with daemon.client() as client:
        for number in range(3):
            gate = tmp_path / f"gate-{number}"
            job = client.submit(picture, f"gate={gate}", seed=1, steps=3, width=64, height=48)
            daemon.wait_for("started", job=job.id)
            assert job.cancel() == "cancelled"
            job.release()
            gate.touch()
        assert client.edit(picture, "go", seed=1, steps=1, width=64, height=48, timeout=30).width == 64
