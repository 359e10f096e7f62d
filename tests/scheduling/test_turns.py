"""Jobs of a session: the worker that knows it, and turns that wait for the turn before."""

from __future__ import annotations

from typing import Any

import pytest

from qied.scheduling import placement
from qied.scheduling.model import (
    CancelRequested,
    Failed,
    JobCost,
    JobRequest,
    Limits,
    Progressed,
    Submitted,
    WorkerLost,
)
from qied.scheduling.placement import AFFINITY_WAIT_MS
from qied.scheduling.scheduler import Scheduler
from tests.scheduling.actions import concluded, key, started

# Session affinity


def two_workers(front: Any) -> None:
    front.worker("gpu0", slots=1)
    front.worker("gpu1", slots=1)


def test_a_session_returns_to_the_worker_that_knows_it(front: Any) -> None:
    two_workers(front)
    front.submit("eve/0", ms=1)
    front.submit("ann/1", session="s")
    assert front.running("gpu1") == ["ann/1"]
    front.succeed("ann/1")
    front.succeed("eve/0")
    front.submit("ann/2", session="s")
    assert front.running("gpu1") == ["ann/2"]


def test_a_session_waits_a_little_for_its_worker_and_then_takes_any(front: Any) -> None:
    two_workers(front)
    front.submit("ann/1", session="s")
    front.succeed("ann/1")
    front.submit("eve/0", ms=AFFINITY_WAIT_MS - 1)
    front.submit("ann/2", session="s")
    assert front.running() == ["eve/0"]
    front.tell(Progressed(key("eve/0"), 10, 1000), after_ms=AFFINITY_WAIT_MS - 1)
    assert front.running() == ["eve/0"]
    assert started(front.tell(Progressed(key("eve/0"), 10, 1000), after_ms=1)) == ["ann/2"]
    assert front.running("gpu1") == ["ann/2"]


def test_a_session_does_not_wait_for_a_worker_that_is_busy_for_long(front: Any) -> None:
    two_workers(front)
    front.submit("ann/1", session="s")
    front.succeed("ann/1")
    front.submit("eve/0", ms=AFFINITY_WAIT_MS + 1)
    front.submit("ann/2", session="s")
    assert front.running("gpu1") == ["ann/2"]


def test_jobs_that_share_the_sessions_worker_make_it_busy_for_longer(front: Any) -> None:
    front.worker("gpu0", slots=2)
    front.worker("gpu1", slots=2)
    front.submit("ann/1", session="s")
    front.tell(WorkerLost("gpu1", blame=False))
    front.submit("eve/0", ms=AFFINITY_WAIT_MS - 500)
    front.succeed("ann/1")
    front.submit("bob/1", ms=AFFINITY_WAIT_MS - 500)
    front.worker("gpu1", slots=2)
    front.submit("ann/2", session="s")
    assert front.running("gpu1") == ["ann/2"]


def test_only_so_many_sessions_are_remembered(front: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "MAX_SESSIONS", 1)
    two_workers(front)
    front.submit("eve/0", ms=1)
    front.submit("ann/1", session="s")
    front.succeed("ann/1")
    front.submit("ann/2", session="t")
    front.succeed("ann/2")
    front.succeed("eve/0")
    front.submit("ann/3", session="s")
    assert front.running("gpu0") == ["ann/3"]


# Dependencies


def test_a_turn_waits_for_the_turn_that_it_edits(front: Any) -> None:
    front.worker()
    front.submit("ann/1")
    front.submit("ann/2", after="ann/1")
    front.submit("ann/3", after="ann/2")
    assert front.running() == ["ann/1"]
    assert front.places_by_name() == ["ann/2", "ann/3"]
    front.succeed("ann/1")
    assert front.running() == ["ann/2"]


def test_a_dependency_that_is_not_known_was_finished_before(front: Any) -> None:
    front.worker()
    front.submit("ann/2", after="ann/1")
    assert front.running() == ["ann/2"]


@pytest.mark.parametrize("waiting", [True, False])
def test_what_depends_on_a_job_without_result_fails_with_it_however_far(front: Any, waiting: bool) -> None:
    if not waiting:
        front.worker()
    front.submit("ann/0")
    for number in range(1, 5):
        front.submit(f"ann/{number}", after=f"ann/{number - 1}")
    front.tell(CancelRequested(key("ann/0")))
    if not waiting:
        front.tell(Failed(key("ann/0"), "job_cancelled", ""))
    assert [front.outcome(f"ann/{number}") for number in range(5)] == ["cancelled"] + ["dependency_failed"] * 4
    assert not front.waiting


def test_a_very_long_chain_of_turns_can_fail_at_once() -> None:
    scheduler = Scheduler(Limits(active_per_user=1, queued_per_user=5000, queue_total=5000))
    cost = JobCost(1, 1, 1)
    turns = [
        JobRequest(key(f"ann/{number}"), cost, number, depends_on=key(f"ann/{number - 1}")) for number in range(2000)
    ]
    scheduler.handle_all(map(Submitted, turns), 0)
    ends = concluded(scheduler.handle(CancelRequested(key("ann/0")), 0))
    assert [end.key for end in ends] == [key(f"ann/{number}") for number in range(2000)]
