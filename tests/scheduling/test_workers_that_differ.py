"""Workers on which the same job takes other bytes, and workers whose memory other programs hold for a while."""

from __future__ import annotations

from typing import Any

from qied.scheduling.model import MemoryWithheld


def test_a_job_goes_where_its_bytes_fit_even_if_they_are_more_elsewhere(front: Any) -> None:
    front.worker("gpu0", budget=1000, weights=100, kind="other")
    front.worker("gpu1", budget=1000, weights=100)
    front.submit("a/1", state=10, arena=2000, elsewhere=(10, 500))
    assert front.running("gpu0") == ["a/1"]
    front.submit("b/1", state=10, arena=500, elsewhere=(10, 2000))
    assert front.running("gpu1") == ["b/1"]


def test_memory_that_others_hold_delays_a_job_but_never_refuses_it(front: Any) -> None:
    front.worker("gpu0", budget=1000, weights=100)
    front.tell(MemoryWithheld("gpu0", 500))
    front.submit("a/1", state=10, arena=600)
    assert front.running() == []
    assert front.outcome("a/1") is None
    front.tell(MemoryWithheld("gpu0", 0))
    assert front.running() == ["a/1"]


def test_memory_that_others_take_leaves_running_jobs_alone(front: Any) -> None:
    front.worker("gpu0", budget=1000, weights=100)
    front.submit("a/1", state=10, arena=600)
    front.tell(MemoryWithheld("gpu0", 800))
    assert front.running() == ["a/1"]
    front.submit("b/1", state=10, arena=10)
    assert front.running() == ["a/1"]
    front.succeed("a/1")
    assert front.running() == ["b/1"]


def test_a_job_is_not_kept_waiting_for_a_worker_whose_memory_others_hold(front: Any) -> None:
    front.worker("gpu0", budget=1000, weights=100, slots=4)
    front.worker("gpu1", budget=1000, weights=100, slots=4)
    front.tell(MemoryWithheld("gpu0", 600))
    started = 0
    for number in range(8):
        front.submit(f"u{number % 4}/small{number}", state=10, arena=200)
    front.submit("v/big", state=10, arena=700)
    for number in range(400):
        running = front.running()
        if "v/big" in running:
            break
        front.succeed(running[0], after_ms=1000)
        front.submit(f"u{number % 4}/more{number}", state=10, arena=200)
        started += 1
    assert "v/big" in front.running("gpu1")
    assert started < 60


def test_small_jobs_go_on_where_a_large_one_waits_for_memory_to_come_back(front: Any) -> None:
    front.worker("gpu0", budget=1000, weights=100, slots=2)
    front.tell(MemoryWithheld("gpu0", 500))
    front.submit("v/big", state=10, arena=700)
    for number in range(100):
        front.submit(f"u/small{number}", state=10, arena=100)
        assert front.running(), "the worker does not idle"
        front.succeed(front.running()[0], after_ms=1000)
    front.tell(MemoryWithheld("gpu0", 0))
    assert "v/big" in front.running()
