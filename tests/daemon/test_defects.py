"""A defect in the work on one job fails that job at once, and nothing else."""

from __future__ import annotations

import pytest
from qied_client.errors import InternalError


@pytest.mark.parametrize("prompt", ["defect", "unencodable"])
def test_a_defect_fails_its_job_and_leaves_the_worker_alive(shared_daemon, picture, prompt):
    with shared_daemon.client() as client:
        worker = shared_daemon.worker_pid
        jobs = [client.submit(picture, word, steps=3) for word in ("before", prompt, "after")]
        assert jobs[0].result().bytes
        assert jobs[2].result().bytes
        with pytest.raises(InternalError):
            jobs[1].result(timeout=20)
        assert shared_daemon.worker_pid == worker
        (row,) = client.status().workers
        assert (row.restarts, row.sessions, row.arena) == (0, 0, 0)
