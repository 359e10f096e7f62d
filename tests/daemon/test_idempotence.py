"""Asking twice, asking and leaving at once, and asking for what was missed."""

from __future__ import annotations

import time

import pytest
from qied_client.errors import JobConflict, UnknownJob
from qied_client.protocol import messages as m
from qied_client.protocol.request import EditRequest


@pytest.fixture
def daemon(shared_daemon):
    return shared_daemon


@pytest.fixture
def client(daemon):
    with daemon.client() as client:
        yield client


@pytest.fixture
def raw(daemon):
    with daemon.raw() as client:
        yield client.hello()


@pytest.fixture
def blob(raw, picture):
    return raw.upload(picture)


@pytest.fixture
def gate(tmp_path):
    return tmp_path / "gate"


@pytest.fixture
def job_id():
    return f"job-{time.monotonic_ns()}"


def _submit(identifier, job, *images, **fields):
    wanted = EditRequest(images, **{"prompt": "x", "seed": 1, "steps": 2, "width": 64, "height": 48, **fields})
    return m.Submit(identifier, job, wanted, wanted.payload_hash())


def _runs(daemon, job):
    return sum(line["event"] == "started" and line["job"] == job for line in daemon.log)


def test_the_same_submit_again_is_the_same_job_and_runs_once(daemon, client, raw, blob, job_id):
    for number in range(1000, 1020):
        raw.send(_submit(number, job_id, blob))
    known = [raw.receive().known for _ in range(20)]
    assert sorted(known) == [False] + [True] * 19
    result = client.job(job_id).result()
    assert raw.ask(lambda n: _submit(n, job_id, blob)).known
    assert client.job(job_id).result().bytes == result.bytes
    assert _runs(daemon, job_id) == 1


def test_the_same_id_with_another_request_is_a_conflict(client, picture, job_id):
    client.submit(picture, "x", seed=1, steps=2, job_id=job_id)
    with pytest.raises(JobConflict):
        client.submit(picture, "x", seed=2, steps=2, job_id=job_id)
    client.job(job_id).result()
    client.release(job_id)
    with pytest.raises(JobConflict):
        client.submit(picture, "x", seed=2, steps=2, job_id=job_id)


def test_a_released_job_does_not_run_again(daemon, client, picture, job_id):
    job = client.submit(picture, "x", seed=1, steps=2, job_id=job_id)
    job.result()
    client.release(job_id)
    client.release(job_id)
    with pytest.raises(UnknownJob):
        client.submit(picture, "x", seed=1, steps=2, job_id=job_id)
    with pytest.raises(UnknownJob):
        client.job(job_id)
    assert _runs(daemon, job_id) == 1


def test_a_job_cannot_be_released_before_it_has_ended(raw, blob, job_id, gate):
    raw.ask(lambda n: _submit(n, job_id, blob, prompt=f"gate={gate}"))
    assert raw.ask(lambda n: m.Release(n, job_id)).code == "invalid_request"
    gate.touch()


def test_a_result_is_kept_until_it_is_released(start_daemon, picture):
    daemon = start_daemon()
    with daemon.client() as client:
        job = client.submit(picture, "x", seed=1, steps=2, job_id="kept")
        data = job.result().bytes
    with daemon.client() as client:
        assert client.job("kept").result().bytes == data
    daemon.kill()
    daemon.start()
    with daemon.client() as client:
        assert client.job("kept").result().bytes == data
        client.release("kept")
    daemon.kill()
    daemon.start()
    with daemon.client() as client, pytest.raises(UnknownJob):
        client.submit(picture, "x", seed=1, steps=2, job_id="kept")


def test_resume_from_a_number_gives_later_events_only(daemon, raw, blob, job_id, gate):
    raw.ask(lambda n: _submit(n, job_id, blob, prompt=f"gate={gate}", steps=5))
    raw.ask(lambda n: m.Resume(n, job_id))
    first = raw.news(m.Event)
    with daemon.raw() as other:
        other.hello()
        assert other.ask(lambda n: m.Resume(n, job_id, after=first.number + 1000)).state in ("waiting", "running")
        gate.touch()
        news = [first]
        while not isinstance(news[-1], m.Result):
            news.append(raw.receive())
        numbers = [message.number for message in news]
        assert numbers == sorted(set(numbers))
        other.send(m.Resume(other.next_id(), job_id, after=numbers[-1] - 1))
        while not isinstance(answer := other.receive(), m.Resumed):
            pass
        assert answer.state == "succeeded"
        assert other.receive() == news[-1]


def test_a_latecomer_gets_the_last_news_of_each_kind_and_none_twice(daemon, raw, blob, job_id, gate):
    raw.ask(lambda n: _submit(n, job_id, blob, prompt=f"gate={gate}", steps=5))
    raw.send(m.Resume(raw.next_id(), job_id))
    while raw.news(m.Event).kind != "started":
        pass
    with daemon.raw() as late:
        late.hello().send(m.Resume(late.next_id(), job_id))
        late.news(m.Resumed)
        missed = late.news(m.Event)
        late.send(m.Resume(late.next_id(), job_id, after=missed.number))
        gate.touch()
        news = [missed]
        while not isinstance(news[-1], m.Result):
            message = late.receive()
            if not isinstance(message, m.Resumed):
                news.append(message)
    numbers = [message.number for message in news]
    assert numbers == sorted(set(numbers))


def test_a_submit_whose_sender_leaves_at_once_is_the_same_job_when_it_comes_back(daemon, client, raw, blob):
    for number in range(10):
        with daemon.raw() as hasty:
            hasty.hello()
            hasty.send(_submit(5, f"hasty-{number}", blob))
            for _ in range(8 * number):
                hasty.send(m.Ping(1))
            hasty.send(m.Bye())
            raw.ping_ms()
            answer = raw.ask(lambda n, number=number: _submit(n, f"hasty-{number}", blob))
            assert isinstance(answer, m.Accepted), answer
            assert client.job(f"hasty-{number}").result().bytes


def test_a_cancel_whose_sender_leaves_at_once_still_counts(daemon, client, picture, gate):
    for number in range(10):
        job = client.submit(picture, f"gate={gate}.{number}", steps=2)
        with daemon.raw() as hasty:
            hasty.hello()
            hasty.send(m.Cancel(5, job.id))
            hasty.send(m.Bye())
            assert job.outcome().state == "cancelled"
        gate.with_name(f"gate.{number}").touch()


def test_an_undo_whose_sender_leaves_at_once_still_counts(daemon, client, picture):
    session = client.session(picture)
    for turn in range(1, 11):
        session.edit("x", steps=1)
        with daemon.raw() as hasty:
            hasty.hello()
            hasty.send(m.Undo(5, session.name, turn))
            hasty.send(m.Bye())
            while session.history() and session.head == turn:
                pass
    session.close()


def test_many_submits_at_once_keep_to_the_quota(start_daemon, picture, gate):
    daemon = start_daemon(QIED_LIMITS_JOBS_RUNNING_PER_USER="1", QIED_LIMITS_JOBS_WAITING_PER_USER="3")
    with daemon.client() as client, daemon.raw() as raw:
        first = client.submit(picture, f"gate={gate}", seed=1, steps=2)
        blob = raw.hello().upload(picture)
        for number in range(1000, 1030):
            raw.send(_submit(number, f"burst-{number}", blob))
        answers = [raw.receive() for _ in range(30)]
        assert {answer.code for answer in answers if isinstance(answer, m.Failure)} == {"quota_exceeded"}
        assert sum(isinstance(answer, m.Accepted) for answer in answers) == 3
        assert client.status().waiting == 3
        gate.touch()
        assert first.result().bytes
