"""Starting within ledger and slots, admission, draining, and events out of time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qied_client.errors import AboveCap, QueueFull, QuotaExceeded, ShuttingDown

from qied.scheduling.model import (
    CancelRequested,
    DrainRequested,
    Failed,
    JobCost,
    PlaceChanged,
    Progressed,
    Start,
    Succeeded,
    WorkerExpected,
    WorkerLost,
)
from tests.scheduling.actions import concluded, key

# Starting within the ledger


def test_a_job_waits_until_a_worker_is_ready(front: Any) -> None:
    assert front.submit("ann/1") == [PlaceChanged(key("ann/1"), 1, None)]
    assert front.worker("gpu0") == [Start("gpu0", key("ann/1"), weight=1)]


def test_the_jobs_weight_goes_to_the_worker(front: Any) -> None:
    front.worker()
    assert front.submit("ann/1", weight=3) == [Start("gpu0", key("ann/1"), weight=3)]


def test_states_and_the_largest_arena_stay_within_the_budget(front: Any) -> None:
    front.worker(budget=1000, weights=500)
    front.submit("ann/1", state=100, arena=200)
    front.submit("bob/1", state=100, arena=300)
    front.submit("eve/1", state=1, arena=0)
    assert front.running() == ["ann/1", "bob/1"]
    front.succeed("bob/1")
    assert front.running() == ["ann/1", "eve/1"]


def test_no_more_jobs_start_than_a_worker_has_slots(front: Any) -> None:
    front.worker(slots=2)
    for number in range(3):
        front.submit(f"ann/{number}")
    assert front.running() == ["ann/0", "ann/1"]


def test_a_user_has_no_more_active_jobs_than_allowed(make_front: Callable[..., Any]) -> None:
    front = make_front(active=2)
    front.worker()
    for number in range(3):
        front.submit(f"ann/{number}")
    front.submit("bob/0")
    assert front.running() == ["ann/0", "ann/1", "bob/0"]


def test_the_same_submission_again_changes_nothing(front: Any) -> None:
    front.submit("ann/1")
    assert front.tell(front.log[0][0]) == []


def test_jobs_spread_over_workers_by_expected_work(front: Any) -> None:
    front.worker("gpu0")
    front.worker("gpu1")
    front.submit("ann/long", ms=9000)
    front.submit("bob/short", ms=1000)
    front.submit("eve/next", ms=1000)
    assert (front.running("gpu0"), front.running("gpu1")) == (["ann/long"], ["bob/short", "eve/next"])


# Too large


def test_a_job_that_fits_on_no_worker_fails_with_the_numbers(front: Any) -> None:
    front.worker(budget=1000, weights=400)
    (end,) = concluded(front.submit("ann/1", state=500, arena=101))
    assert (end.outcome, end.code) == ("failed", "above_cap")
    assert "601" in end.message and "600" in end.message and end.remedy


def test_a_job_that_is_too_large_waits_until_workers_say_what_they_have(front: Any) -> None:
    front.submit("ann/1", state=5000)
    assert front.outcome("ann/1") is None
    front.worker()
    assert front.outcome("ann/1") == "failed"


def test_a_large_job_waits_for_a_large_worker_that_is_still_starting(front: Any) -> None:
    front.tell(WorkerExpected("large"))
    front.submit("ann/1", state=5000)
    front.worker("small")
    assert front.outcome("ann/1") is None
    front.worker("large", budget=9000)
    assert front.running("large") == ["ann/1"]


def test_a_large_job_waits_for_its_worker_to_be_restarted(front: Any) -> None:
    front.worker("large", budget=9000)
    front.worker("small")
    front.submit("ann/1", state=5000)
    front.tell(WorkerLost("large", blame=False))
    assert front.outcome("ann/1") is None
    front.worker("large", budget=9000)
    assert front.running("large") == ["ann/1"]


def test_a_daemon_that_drains_keeps_a_large_job_for_the_next_start(front: Any) -> None:
    front.submit("ann/1", state=5000)
    front.tell(DrainRequested())
    front.worker("small")
    assert front.outcome("ann/1") is None


# Admission


def test_admission_names_the_users_quota(make_front: Callable[..., Any]) -> None:
    front = make_front(queued=2)
    front.submit("ann/1")
    assert front.scheduler.check_admission("ann", JobCost(1, 1, 1)) is None
    front.submit("ann/2")
    error = front.scheduler.check_admission("ann", JobCost(1, 1, 1))
    assert isinstance(error, QuotaExceeded)
    assert error.details == {"setting": "limits.jobs_waiting_per_user", "waiting": 2, "limit": 2} and error.remedy
    assert front.scheduler.check_admission("bob", JobCost(1, 1, 1)) is None


def test_admission_ends_when_the_queue_is_full(make_front: Callable[..., Any]) -> None:
    front = make_front(total=2)
    front.submit("ann/1")
    front.submit("bob/1")
    error = front.scheduler.check_admission("eve", JobCost(1, 1, 1))
    assert isinstance(error, QueueFull)
    assert error.details == {"waiting": 2, "limit": 2}


def test_active_jobs_do_not_count_as_queued(make_front: Callable[..., Any]) -> None:
    front = make_front(queued=1)
    front.worker()
    front.submit("ann/1")
    assert front.scheduler.check_admission("ann", JobCost(1, 1, 1)) is None


def test_admission_refuses_what_no_worker_can_hold_and_everything_when_draining(front: Any) -> None:
    assert front.scheduler.check_admission("ann", JobCost(5000, 1, 1)) is None
    front.worker()
    assert isinstance(front.scheduler.check_admission("ann", JobCost(5000, 1, 1)), AboveCap)
    front.tell(DrainRequested())
    assert isinstance(front.scheduler.check_admission("ann", JobCost(1, 1, 1)), ShuttingDown)


# Draining


def test_when_the_daemon_drains_nothing_starts_and_active_jobs_end(front: Any) -> None:
    front.worker(slots=1)
    front.submit("ann/1")
    front.submit("ann/2")
    assert front.tell(DrainRequested()) == [PlaceChanged(key("ann/2"), 1, None)]
    front.succeed("ann/1")
    front.worker("gpu1")
    assert front.running() == []
    front.tell(CancelRequested(key("ann/2")))
    assert front.outcome("ann/2") == "cancelled"


# Stale events, time, many events at once


def test_stale_events_change_nothing(front: Any) -> None:
    front.submit("ann/1")
    for event in (
        Progressed(key("ann/1"), 5, 5),
        Progressed(key("bob/1"), 5, 5),
        Succeeded(key("bob/1")),
        Failed(key("ann/1"), "job_failed", ""),
    ):
        assert front.tell(event) == []
    assert [user.served_ms for user in front.scheduler.snapshot().users] == [0]


def test_events_of_one_moment_tell_places_once(front: Any) -> None:
    other = type(front)(front.limits)
    other.submit("ann/1")
    other.submit("ann/2")
    events = [event for event, _, _ in other.log]
    assert front.scheduler.handle_all(events, 0) == [
        PlaceChanged(key("ann/1"), 1, None),
        PlaceChanged(key("ann/2"), 2, None),
    ]


def test_the_picture_for_people_shows_ledger_users_and_queue(front: Any) -> None:
    front.worker(budget=1000, weights=100, slots=1)
    front.submit("ann/1", state=10, arena=20, ms=1000)
    front.submit("bob/1")
    front.tell(Progressed(key("ann/1"), 400, 600), after_ms=400)
    view = front.scheduler.snapshot()
    (worker,) = view.workers
    assert (worker.budget_bytes, worker.weights_bytes, worker.state_bytes, worker.arena_bytes) == (1000, 100, 10, 20)
    assert worker.free_bytes == 870
    assert [(job.key, job.worker, job.remaining_ms) for job in view.active] == [(key("ann/1"), "gpu0", 600)]
    assert [(job.key, job.place, job.starts_in_ms) for job in view.waiting] == [(key("bob/1"), 1, 600)]
    assert [(user.user, user.served_ms, user.active, user.waiting) for user in view.users] == [
        ("ann", 400, 1, 0),
        ("bob", 0, 0, 1),
    ]
