"""How jobs end other than well: cancelled, failed, out of memory, their worker lost."""

from __future__ import annotations

from typing import Any

import pytest

from qied.scheduling.model import (
    CancelRequested,
    Conclude,
    Failed,
    Requeued,
    Start,
    Stop,
    WorkerLost,
)
from qied.scheduling.placement import OVERTAKES
from tests.scheduling.actions import finish_all, key

# Cancelling


def test_a_waiting_job_is_cancelled_at_once(front: Any) -> None:
    front.submit("ann/1")
    (end,) = front.tell(CancelRequested(key("ann/1")))
    assert (end.outcome, end.code) == ("cancelled", "job_cancelled")


def test_an_active_job_is_stopped_once_and_cancelled_when_the_worker_answers(front: Any) -> None:
    front.worker()
    front.submit("ann/1")
    assert front.tell(CancelRequested(key("ann/1"))) == [Stop("gpu0", key("ann/1"))]
    assert front.tell(CancelRequested(key("ann/1"))) == []
    front.tell(Failed(key("ann/1"), "job_cancelled", "stopped"))
    assert front.outcome("ann/1") == "cancelled"


def test_a_job_that_succeeds_before_it_could_be_stopped_stays_succeeded(front: Any) -> None:
    front.worker()
    front.submit("ann/1")
    front.tell(CancelRequested(key("ann/1")))
    assert front.succeed("ann/1") == []
    assert front.outcome("ann/1") == "succeeded"


@pytest.mark.parametrize("blame", [True, False])
def test_a_job_being_stopped_is_cancelled_when_its_worker_is_lost(front: Any, blame: bool) -> None:
    front.worker()
    front.submit("ann/1")
    front.tell(CancelRequested(key("ann/1")))
    (end,) = front.tell(WorkerLost("gpu0", blame))
    assert end.outcome == "cancelled"


def test_a_job_being_stopped_is_not_retried_when_it_runs_out_of_memory(front: Any) -> None:
    front.worker()
    front.submit("ann/1")
    front.tell(CancelRequested(key("ann/1")))
    front.tell(Failed(key("ann/1"), "out_of_memory", "", retry_smaller=True))
    assert front.outcome("ann/1") == "cancelled"


def test_cancelling_what_is_unknown_or_finished_does_nothing(front: Any) -> None:
    front.worker()
    front.submit("ann/1")
    front.succeed("ann/1")
    assert front.tell(CancelRequested(key("ann/1"))) == []
    assert front.tell(CancelRequested(key("ann/2"))) == []


# Failures and deaths


def test_a_failure_ends_the_job_with_the_workers_words(front: Any) -> None:
    front.worker()
    front.submit("ann/1")
    (end,) = front.tell(Failed(key("ann/1"), "picture_unreadable", "truncated", remedy="Send it again."))
    assert end == Conclude(key("ann/1"), "failed", "picture_unreadable", "truncated", "Send it again.")


def test_out_of_memory_is_retried_alone_and_then_fails(front: Any) -> None:
    front.worker()
    front.submit("bob/1")
    front.submit("ann/1")
    out_of_memory = Failed(key("ann/1"), "out_of_memory", "no room", retry_smaller=True)
    assert Requeued(key("ann/1"), 0, "out of memory next to other jobs; runs alone next") in front.tell(out_of_memory)
    assert front.running() == ["bob/1"]
    assert Start("gpu0", key("ann/1"), weight=1) in front.succeed("bob/1")
    assert front.alone(key("ann/1"))
    (end,) = front.tell(out_of_memory)
    assert (end.outcome, end.code) == ("failed", "out_of_memory")


def test_a_first_death_does_not_poison_a_job_that_ran_alone_for_lack_of_memory(front: Any) -> None:
    front.worker()
    front.submit("ann/1")
    front.tell(Failed(key("ann/1"), "out_of_memory", "no room", retry_smaller=True))
    front.tell(WorkerLost("gpu0", blame=True))
    assert front.outcome("ann/1") is None
    front.worker()
    front.tell(WorkerLost("gpu0", blame=True))
    assert front.outcome("ann/1") == "poisoned"


def test_jobs_of_a_dead_worker_go_first_and_run_alone(front: Any) -> None:
    front.worker()
    front.submit("ann/1")
    front.submit("bob/1")
    front.submit("ann/2", state=2, arena=5)
    actions = front.tell(WorkerLost("gpu0", blame=True))
    assert [(a.key.user, a.deaths) for a in actions if isinstance(a, Requeued)] == [("ann", 1), ("bob", 1), ("ann", 1)]
    front.submit("ann/new", preview=True)
    assert front.worker("gpu0")[0] == Start("gpu0", key("ann/1"), weight=1)
    assert front.alone(key("ann/1"))
    assert finish_all(front) == ["ann/1", "bob/1", "ann/2", "ann/new"]


def test_a_killer_is_poisoned_and_its_neighbours_succeed(front: Any) -> None:
    front.worker()
    for name in ("ann/killer", "bob/innocent", "eve/innocent"):
        front.submit(name)
    while front.active:
        if "ann/killer" in front.running():
            front.tell(WorkerLost("gpu0", blame=True))
            front.worker()
        else:
            front.succeed(front.running()[0])
    assert [front.outcome(n) for n in ("ann/killer", "bob/innocent", "eve/innocent")] == [
        "poisoned",
        "succeeded",
        "succeeded",
    ]


def test_deaths_that_the_journal_remembers_count(front: Any) -> None:
    front.worker()
    assert front.submit("ann/1", deaths=1) == [Start("gpu0", key("ann/1"), weight=1)]
    assert front.alone(key("ann/1"))
    (end,) = front.tell(WorkerLost("gpu0", blame=True))
    assert (end.outcome, end.code) == ("poisoned", "job_poisoned")


def test_memory_of_the_host_that_runs_out_beside_others_is_no_proof_and_alone_it_is(front: Any) -> None:
    front.worker()
    front.submit("ann/1")
    front.submit("bob/1")
    front.tell(WorkerLost("gpu0", blame=True, for_memory=True))
    assert front.deaths == {key("ann/1"): 0, key("bob/1"): 0}
    front.worker()
    assert front.running() == ["ann/1"]
    front.tell(WorkerLost("gpu0", blame=True, for_memory=True))
    assert (front.deaths[key("ann/1")], front.outcome("ann/1")) == (1, None)
    front.worker()
    assert front.running() == ["ann/1"]
    front.tell(WorkerLost("gpu0", blame=True, for_memory=True))
    front.worker()
    assert (front.outcome("ann/1"), front.running()) == ("poisoned", ["bob/1"])


def test_a_worker_killed_from_outside_is_not_held_against_its_jobs(front: Any) -> None:
    front.worker()
    front.submit("ann/1")
    front.submit("bob/1")
    front.tell(WorkerLost("gpu0", blame=False))
    assert front.deaths == {key("ann/1"): 0, key("bob/1"): 0}
    front.worker()
    assert front.running() == ["ann/1", "bob/1"]


def test_requeuing_ends_after_sixteen_further_attempts(front: Any) -> None:
    front.submit("ann/1")
    for _ in range(16):
        front.worker()
        front.tell(WorkerLost("gpu0", blame=False))
        assert front.outcome("ann/1") is None
    front.worker()
    (end,) = front.tell(WorkerLost("gpu0", blame=False))
    assert (end.outcome, end.code) == ("failed", "job_failed")
    assert end.message.startswith("Given up after 16 further attempts")


def test_a_worker_that_is_ready_again_has_lost_its_jobs(front: Any) -> None:
    front.worker()
    front.submit("ann/1")
    actions = front.worker()
    assert [type(action) for action in actions] == [Requeued, Start]


def test_a_job_in_quarantine_starts_although_others_keep_the_worker_busy(front: Any) -> None:
    front.worker(slots=4)
    front.submit("eve/0", ms=10)
    front.submit("ann/suspect", deaths=1)
    later = 0
    for number in range(1, 60):
        front.submit(f"eve/{number}", ms=10)
        if number >= 3 and front.running():
            front.succeed(front.running()[0], after_ms=10)
        if "ann/suspect" in front.running():
            break
        later += 1
    assert front.running() == ["ann/suspect"]
    assert later <= OVERTAKES + 4


def test_a_crowd_in_quarantine_does_not_shut_out_other_users(front: Any) -> None:
    front.worker(slots=4)
    for number in range(10):
        front.submit(f"ann/{number}", deaths=1)
    for number in range(5):
        front.submit(f"bob/{number}")
    order = finish_all(front)
    assert order.index("bob/0") == 1
    assert order.index("bob/4") <= 9
