"""Cancelling: within one step, without a trace for the neighbours, and for good."""

from __future__ import annotations

import pytest
import zmq
from qied_client.credentials import read_credential
from qied_client.errors import JobCancelled, UnknownJob
from qied_client.protocol import limits
from qied_client.protocol import messages as m


@pytest.fixture
def gate(tmp_path):
    return tmp_path / "gate"


def _started(job):
    """Wait until a worker has taken the job up."""
    next(event for event in job.events() if event.kind == "started")
    return job


def _free_bytes(client):
    (worker,) = client.status().workers
    return worker.free


def _until_nothing_runs(client):
    while client.status().running:
        pass


def test_a_running_job_stops_within_a_step_and_its_neighbours_get_the_same_bytes(daemon, picture, make_picture, gate):
    other = make_picture(64, 48, (1, 2, 3))
    with daemon.client() as client, daemon.client(daemon.enrol("bob")) as bob:
        alone = [client.edit(picture, "x", seed=5, steps=4).bytes, bob.edit(other, "y", seed=6, steps=9).bytes]
        free = _free_bytes(client)
        victim = _started(client.submit(picture, f"gate={gate}", seed=1, steps=200))
        neighbours = [client.submit(picture, "x", seed=5, steps=4), bob.submit(other, "y", seed=6, steps=9)]
        assert _free_bytes(client) < free
        assert victim.cancel() == "cancelled"
        gate.touch()
        assert [job.result().bytes for job in neighbours] == alone
        assert victim.outcome().state == "cancelled"
        assert _free_bytes(client) == free
        with pytest.raises(JobCancelled):
            victim.result()


def test_a_cancelled_job_does_one_more_step_at_most(daemon, picture, gate):
    with daemon.client() as client, daemon.raw() as raw:
        job = _started(client.submit(picture, f"gate={gate}", seed=1, steps=200))
        job.cancel()
        gate.touch()
        client.edit(picture, "something that comes after it", seed=1, steps=2)
        raw.hello().send(m.Resume(raw.next_id(), job.id))
        raw.news(m.Resumed)
        assert isinstance(raw.receive(), m.Result)


def test_a_waiting_job_never_starts(start_daemon, picture, gate):
    daemon = start_daemon(QIED_LIMITS_JOBS_RUNNING_PER_USER="1")
    with daemon.client() as client:
        running = client.submit(picture, f"gate={gate}", steps=2)
        waiting = client.submit(picture, "not reached", steps=2)
        assert waiting.cancel() == "cancelled"
        assert "started" not in {event.kind for event in waiting.events()}
        gate.touch()
        assert running.result().bytes
        assert [row.state for row in client.status().jobs] == []


def test_cancelling_again_or_too_late_or_at_nothing(daemon, picture, gate):
    with daemon.client() as client:
        job = _started(client.submit(picture, f"gate={gate}", steps=2))
        assert [job.cancel(), job.cancel(), client.cancel(job.id)] == ["cancelled"] * 3
        gate.touch()
        finished = client.submit(picture, "quick", steps=2)
        result = finished.result()
        assert finished.cancel() == "finished"
        assert client.job(finished.id).result().bytes == result.bytes
        with pytest.raises(UnknownJob):
            client.cancel("never-submitted")
        finished.release()
        with pytest.raises(UnknownJob):
            client.cancel(finished.id)


def test_a_job_cancelled_while_its_pictures_are_on_the_way_to_the_worker(daemon, picture, gate):
    large = picture + bytes(40_000_000)
    with daemon.client() as client:
        free = _free_bytes(client)
        for _ in range(3):
            job = client.submit(large, "cancel me", steps=200)
            assert job.cancel() == "cancelled"
            assert job.outcome().state == "cancelled"
        assert client.edit(picture, "quick", steps=2).bytes
        _until_nothing_runs(client)
        assert _free_bytes(client) == free


def test_a_cancellation_that_arrives_while_the_daemon_starts_keeps_the_job_from_running(daemon, picture, gate):
    with daemon.client() as client, daemon.raw() as raw:
        raw.hello()
        job = client.submit(picture, f"gate={gate}", steps=2)
        daemon.kill()
        daemon.listen = read_credential(daemon.key).endpoint
        raw.wait_for_socket(zmq.EVENT_DISCONNECTED)
        raw.send(m.Hello(1000, limits.MIN_VERSION, limits.VERSION, "raw"))
        raw.send(m.Cancel(1001, job.id))
        log_before = len(daemon.log)
        daemon.start()
        assert raw.answer(1001).answer == "cancelled"
        assert client.edit(picture, "afterwards", steps=2).bytes
        events = [line["event"] for line in daemon.log[log_before:] if line.get("job") == job.id]
        assert events == ["finished"]
        assert client.status().running == 0


def test_a_cancellation_outlasts_a_sigkill_right_after_its_answer(daemon, picture, gate):
    with daemon.client() as client:
        running = _started(client.submit(picture, f"gate={gate}", steps=2))
        waiting = client.submit(picture, f"gate={gate}", seed=9, steps=2)
        running.cancel()
        waiting.cancel()
        daemon.kill()
        gate.touch()
        daemon.start()
        for job in (running, waiting):
            assert client.job(job.id).outcome().state == "cancelled"
            assert client.cancel(job.id) == "cancelled"
