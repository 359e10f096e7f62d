"""What was accepted ends in exactly one outcome, also where a worker dies of a job, or is killed from outside."""

from __future__ import annotations

import os
import signal

import pytest


@pytest.mark.parametrize("word", ["crash", "lost"])
def test_a_job_that_kills_its_worker_twice_is_poisoned_and_the_others_finish(daemon, picture, word):
    with daemon.client(patience=60.0) as client:
        others = [client.submit(picture, "calm", seed=n, steps=3, width=64, height=48) for n in range(3)]
        killer = client.submit(picture, word, seed=1, steps=3, width=64, height=48)
        others += [client.submit(picture, "calm", seed=n, steps=3, width=64, height=48) for n in range(3, 6)]
        outcome = killer.outcome()
        results = [other.result() for other in others]
    assert (outcome.state, outcome.code) == ("poisoned", "job_poisoned")
    assert outcome.remedy
    assert len(results) == 6
    assert sum(line.get("event") == "worker ended" for line in daemon.log) == 2


def test_a_worker_killed_from_outside_is_no_fault_of_its_jobs(daemon, picture, tmp_path):
    gate = tmp_path / "gate"
    with daemon.client(patience=60.0) as client:
        job = client.submit(picture, f"gate={gate}", seed=1, steps=2, width=64, height=48)
        for _ in range(3):
            os.kill(daemon.worker_pid, signal.SIGKILL)
            daemon.wait_for("requeued", job=job.id)
            daemon.wait_for("worker ready")
        gate.touch()
        assert job.outcome().state == "succeeded"
