from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from qied_client.errors import AboveCap, QueueFull, QuotaExceeded, ShuttingDown

from qied.scheduling import placement
from qied.scheduling.model import (
    CancelRequested,
    Conclude,
    DrainRequested,
    Failed,
    JobCost,
    JobKey,
    JobRequest,
    Limits,
    PlaceChanged,
    Progressed,
    Requeued,
    Start,
    Stop,
    Submitted,
    Succeeded,
    WorkerDraining,
    WorkerExpected,
    WorkerLost,
)
from qied.scheduling.placement import AFFINITY_WAIT_MS, OVERTAKEN_MS, OVERTAKES
from qied.scheduling.queue import CREDIT_MS, PREVIEWS_AHEAD
from qied.scheduling.scheduler import MAX_REQUEUES, Scheduler


def key(name: str) -> JobKey:
    return JobKey(*name.split("/"))


def concluded(actions: list[Any]) -> list[Conclude]:
    return [action for action in actions if isinstance(action, Conclude)]


def started(actions: list[Any]) -> list[str]:
    return [f"{action.key.user}/{action.key.job}" for action in actions if isinstance(action, Start)]


# Starting within the ledger


def test_a_job_waits_until_a_worker_is_ready(front: Any) -> None:
    assert front.submit("ann/1") == [PlaceChanged(key("ann/1"), 1, None)]
    assert front.worker("gpu0") == [Start("gpu0", key("ann/1"), alone=False, weight=1)]


def test_the_jobs_weight_goes_to_the_worker(front: Any) -> None:
    front.worker()
    assert front.submit("ann/1", weight=3) == [Start("gpu0", key("ann/1"), alone=False, weight=3)]


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


def test_a_large_job_waits_for_its_worker_to_be_restarted_but_not_when_that_is_given_up(front: Any) -> None:
    front.worker("large", budget=9000)
    front.worker("small")
    front.submit("ann/1", state=5000)
    front.tell(WorkerLost("large", blame=False))
    assert front.outcome("ann/1") is None
    front.tell(WorkerLost("large", blame=False, returns=False))
    assert front.outcome("ann/1") == "failed"


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
    assert error.details == {"waiting": 2, "limit": 2} and error.remedy
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


# Fairness between and within users


def finish_all(front: Any) -> list[str]:
    """Let active jobs succeed one after another, oldest start first; returns the names in that order."""
    order = []
    while front.running():
        name = front.running()[0]
        order.append(name)
        cost = front.requests[key(name)].cost.milliseconds
        front.tell(Progressed(key(name), cost, 0), after_ms=cost)
        front.succeed(name)
    return order


def test_jobs_of_one_user_run_in_order_of_acceptance(front: Any) -> None:
    front.worker(slots=1)
    for number in range(4):
        front.submit(f"ann/{number}")
    assert finish_all(front) == ["ann/0", "ann/1", "ann/2", "ann/3"]


def test_the_user_served_least_is_next(front: Any) -> None:
    for number in range(4):
        front.submit(f"ann/{number}", ms=1000)
    for number in range(2):
        front.submit(f"bob/{number}", ms=3000)
    front.worker(slots=1)
    assert finish_all(front) == ["ann/0", "bob/0", "ann/1", "ann/2", "ann/3", "bob/1"]


def test_jobs_that_start_together_count_before_they_are_measured(front: Any) -> None:
    for number in range(4):
        front.submit(f"ann/{number}")
    for number in range(4):
        front.submit(f"bob/{number}")
    front.worker(slots=4)
    assert front.running() == ["ann/0", "bob/0", "ann/1", "bob/1"]


def test_a_job_that_ends_before_its_last_report_is_charged_what_was_expected_of_it(front: Any) -> None:
    front.worker()
    front.submit("ann/1", ms=1000)
    front.tell(Progressed(key("ann/1"), 300, 600))
    front.succeed("ann/1")
    assert [user.served_ms for user in front.scheduler.snapshot().users] == [900]


def test_a_user_who_was_away_has_no_credit(front: Any) -> None:
    front.worker(slots=1)
    for number in range(10):
        front.submit(f"ann/{number}")
    for _ in range(6):
        name = front.running()[0]
        front.tell(Progressed(key(name), 1000, 0), after_ms=1000)
        front.succeed(name)
    for number in range(3):
        front.submit(f"bob/{number}")
    assert finish_all(front) == ["ann/6", "bob/0", "ann/7", "bob/1", "ann/8", "bob/2", "ann/9"]


def test_everybody_having_left_does_not_reset_who_owes_what(front: Any) -> None:
    front.worker(slots=1)
    front.submit("ann/0", ms=5000)
    finish_all(front)
    front.submit("eve/0", ms=0)
    front.submit("bob/0")
    front.submit("bob/1")
    front.submit("ann/1")
    assert finish_all(front) == ["eve/0", "bob/0", "ann/1", "bob/1"]


def test_a_user_whose_job_could_not_start_keeps_a_bounded_credit(front: Any) -> None:
    front.worker("small", slots=1)
    front.tell(WorkerExpected("large"))
    front.submit("bob/large", state=5000)
    for number in range(400):
        front.submit(f"ann/{number}", ms=1000)
        finish_all(front)
    for number in range(200):
        front.submit(f"ann/a{number}")
        front.submit(f"bob/b{number}")
    order = finish_all(front)
    lead = next(position for position, name in enumerate(order[1:]) if name.startswith("ann/"))
    assert abs(lead * 1000 - CREDIT_MS) <= 2000


def test_a_users_previews_go_before_its_other_jobs(front: Any) -> None:
    front.worker(slots=1)
    front.submit("ann/running")
    front.submit("ann/long")
    front.submit("ann/preview", preview=True)
    assert finish_all(front) == ["ann/running", "ann/preview", "ann/long"]


def test_previews_do_not_hold_back_the_users_other_jobs_for_ever(front: Any) -> None:
    front.worker(slots=1)
    front.submit("ann/running")
    front.submit("ann/long")
    for number in range(PREVIEWS_AHEAD + 3):
        front.submit(f"ann/p{number}", preview=True)
    assert finish_all(front).index("ann/long") == 1 + PREVIEWS_AHEAD


def test_small_jobs_use_what_a_big_one_has_to_wait_for(front: Any) -> None:
    front.worker(budget=1000, weights=0)
    front.submit("ann/half", state=500, arena=0)
    front.submit("bob/big", state=900, arena=0)
    front.submit("eve/small", state=100, arena=0)
    assert front.running() == ["ann/half", "eve/small"]


@pytest.mark.parametrize("pace_ms", [1, OVERTAKEN_MS // 3])
def test_a_big_job_is_overtaken_a_bounded_number_of_times(front: Any, pace_ms: int) -> None:
    front.worker(budget=1000, weights=0, slots=4)
    front.submit("eve/0", state=100, arena=0, ms=10)
    front.submit("bob/big", state=1000, arena=0)
    overtakes = 0
    for number in range(1, 50):
        front.submit(f"eve/{number}", state=100, arena=0, ms=10)
        if number >= 3:
            front.succeed(front.running()[0], after_ms=pace_ms)
        if "bob/big" in front.running():
            break
        overtakes += 1
    assert front.running() == ["bob/big"]
    assert overtakes <= (OVERTAKES if pace_ms == 1 else 3) + 4


def test_a_reserved_slot_of_the_users_quota_is_not_taken_by_its_later_jobs(make_front: Callable[..., Any]) -> None:
    front = make_front(active=2)
    front.worker(budget=1000, weights=0, slots=4)
    front.submit("bob/0", state=100, arena=0, ms=10)
    front.submit("bob/big", state=1000, arena=0, ms=10)
    for number in range(1, 60):
        front.submit(f"bob/{number}", state=100, arena=0, ms=10)
    order = finish_all(front)
    assert order.index("bob/big") <= OVERTAKES + 2


def reserved(front: Any) -> dict[str, JobKey | None]:
    return {worker.worker: worker.reserved_for for worker in front.scheduler.snapshot().workers}


def reserve_for_bob(front: Any) -> None:
    """Let a small job of eve be active on gpu0, which is kept free for bob's big one."""
    front.submit("eve/0", state=100, arena=0)
    front.submit("bob/big", state=1000, arena=0)
    front.submit("eve/1", state=100, arena=0)
    front.succeed("eve/1", after_ms=1)
    front.submit("eve/2", state=100, arena=0, wait_ms=OVERTAKEN_MS)
    assert reserved(front)["gpu0"] == key("bob/big")
    assert front.running("gpu0") == ["eve/0"]


def test_a_cancelled_big_job_frees_the_worker_that_was_kept_for_it(front: Any) -> None:
    front.worker(budget=1000, weights=0)
    reserve_for_bob(front)
    front.tell(CancelRequested(key("bob/big")))
    assert front.running() == ["eve/0", "eve/2"]


def test_when_the_worker_that_was_kept_is_lost_another_one_is_kept(front: Any) -> None:
    front.worker("busy", budget=1000, weights=0)
    front.submit("fred/0", state=950, arena=0, ms=100_000)
    front.worker("gpu0", budget=1000, weights=0)
    reserve_for_bob(front)
    front.tell(WorkerLost("gpu0", blame=False))
    assert reserved(front) == {"busy": key("bob/big")}


def test_starts_on_workers_too_small_for_a_job_do_not_count_as_overtaking(front: Any) -> None:
    front.worker("large", budget=1000, weights=0, slots=2)
    front.submit("eve/0", state=900, arena=0)
    front.worker("small", budget=300, weights=0, slots=2)
    front.submit("bob/big", state=1000, arena=0)
    for number in range(2 * OVERTAKES):
        front.submit(f"ann/{number}", state=200, arena=0)
        front.succeed(f"ann/{number}", after_ms=OVERTAKEN_MS)
    assert reserved(front) == {"large": None, "small": None}


def test_while_a_worker_is_kept_for_a_users_job_its_quota_is_kept_too(make_front: Callable[..., Any]) -> None:
    front = make_front(active=1)
    front.worker("large", budget=1000, weights=0, slots=4)
    front.submit("eve/0", state=400, arena=0)
    front.submit("bob/big", state=1000, arena=0)
    front.submit("fred/0", state=400, arena=0)
    front.worker("small", budget=300, weights=0, slots=1)
    front.submit("gil/0", state=250, arena=0)
    front.submit("bob/small", state=250, arena=0)
    front.succeed("gil/0", after_ms=OVERTAKEN_MS)
    assert reserved(front)["large"] == key("bob/big")
    assert front.running() == ["eve/0", "fred/0"]
    front.tell(WorkerExpected("other"))
    assert front.running() == ["eve/0", "fred/0"]
    front.succeed("eve/0")
    front.succeed("fred/0")
    assert front.running() == ["bob/big"]
    front.succeed("bob/big")
    assert front.running() == ["bob/small"]


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
    front.tell(WorkerDraining("gpu1"))
    front.submit("eve/0", ms=AFFINITY_WAIT_MS - 500)
    front.succeed("ann/1")
    front.submit("eve/1", ms=AFFINITY_WAIT_MS - 500)
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
    assert Requeued(key("ann/1"), 0, "out of memory beside others; runs alone next") in front.tell(out_of_memory)
    assert front.running() == ["bob/1"]
    assert Start("gpu0", key("ann/1"), alone=True, weight=1) in front.succeed("bob/1")
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
    assert front.worker("gpu0")[0] == Start("gpu0", key("ann/1"), alone=True, weight=1)
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
    assert front.submit("ann/1", deaths=1) == [Start("gpu0", key("ann/1"), alone=True, weight=1)]
    (end,) = front.tell(WorkerLost("gpu0", blame=True))
    assert (end.outcome, end.code) == ("poisoned", "job_poisoned")


def test_a_worker_killed_from_outside_is_not_held_against_its_jobs(front: Any) -> None:
    front.worker()
    front.submit("ann/1")
    front.submit("bob/1")
    front.tell(WorkerLost("gpu0", blame=False))
    assert front.deaths == {key("ann/1"): 0, key("bob/1"): 0}
    front.worker()
    assert front.running() == ["ann/1", "bob/1"]


def test_requeuing_has_an_end(front: Any) -> None:
    front.submit("ann/1")
    for _ in range(MAX_REQUEUES):
        front.worker()
        front.tell(WorkerLost("gpu0", blame=False))
        assert front.outcome("ann/1") is None
    front.worker()
    (end,) = front.tell(WorkerLost("gpu0", blame=False))
    assert (end.outcome, end.code) == ("failed", "job_failed")
    assert str(MAX_REQUEUES) in end.message


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


# Draining


def test_a_draining_worker_keeps_its_jobs_and_takes_no_more(front: Any) -> None:
    front.worker()
    front.submit("ann/1")
    front.tell(WorkerDraining("gpu0"))
    front.submit("ann/2")
    assert front.running() == ["ann/1"]
    front.succeed("ann/1")
    assert front.running() == []
    assert front.worker("gpu0")[0] == Start("gpu0", key("ann/2"), alone=False, weight=1)


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
