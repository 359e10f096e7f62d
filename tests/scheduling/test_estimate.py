from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from qied.scheduling.estimate import HORIZON
from qied.scheduling.model import (
    JobCost,
    JobKey,
    JobRequest,
    Limits,
    PlaceChanged,
    Progressed,
    Start,
    Submitted,
    Succeeded,
    WorkerExpected,
    WorkerLost,
    WorkerOffer,
    WorkerReady,
)
from qied.scheduling.scheduler import Scheduler


def key(name: str) -> JobKey:
    return JobKey(*name.split("/"))


def starts(front: Any) -> dict[str, int | None]:
    return {f"{k.user}/{k.job}": front.starts_in[k] for k in sorted(front.places, key=front.places.__getitem__)}


def test_without_a_worker_there_are_places_but_no_times(front: Any) -> None:
    front.submit("ann/1")
    front.submit("ann/2")
    front.submit("bob/1")
    assert starts(front) == {"ann/1": None, "bob/1": None, "ann/2": None}


def test_jobs_start_one_after_another_on_one_slot(front: Any) -> None:
    front.worker(slots=1)
    front.submit("ann/1", ms=1000)
    front.submit("ann/2", ms=2000)
    front.submit("ann/3", ms=4000)
    assert starts(front) == {"ann/2": 1000, "ann/3": 3000}


def test_jobs_that_share_a_worker_take_longer_each(front: Any) -> None:
    front.worker(slots=2)
    front.submit("ann/1", ms=1000)
    front.submit("bob/1", ms=3000)
    front.submit("eve/1", ms=1000)
    front.submit("eve/2", ms=1000)
    assert starts(front) == {"eve/1": 2000, "eve/2": 4000}


def test_two_workers_halve_the_wait(front: Any) -> None:
    front.worker("gpu0", slots=1)
    front.worker("gpu1", slots=1)
    for number in range(6):
        front.submit(f"ann/{number}", ms=1000)
    assert list(starts(front).values()) == [1000, 1000, 2000, 2000]


def test_a_job_that_needs_the_whole_worker_waits_until_it_is_empty(front: Any) -> None:
    front.worker(budget=1000, weights=0)
    front.submit("ann/1", state=600, ms=1000)
    front.submit("bob/1", state=300, ms=3000)
    front.submit("eve/big", state=900, ms=1000)
    assert starts(front) == {"eve/big": 4000}


def test_a_turn_starts_after_the_turn_that_it_edits(front: Any) -> None:
    front.worker()
    front.submit("ann/1", ms=1000)
    front.submit("ann/2", ms=1000, after="ann/1")
    front.submit("ann/3", ms=1000, after="ann/2")
    assert starts(front) == {"ann/2": 1000, "ann/3": 2000}


def test_times_are_gone_with_the_last_worker(front: Any) -> None:
    front.worker(slots=1)
    front.submit("ann/1", ms=1000)
    front.submit("ann/2", ms=1000)
    front.tell(WorkerLost("gpu0", blame=False))
    assert starts(front) == {"ann/1": None, "ann/2": None}


def test_small_shifts_are_not_told_and_large_ones_are(front: Any) -> None:
    front.worker(slots=1)
    front.submit("ann/1", ms=20_000)
    front.submit("ann/2")
    assert front.tell(Progressed(key("ann/1"), 2_000, 19_000), after_ms=2_000) == []
    assert front.tell(Progressed(key("ann/1"), 2_000, 40_000), after_ms=2_000) == [
        PlaceChanged(key("ann/2"), 1, 40_000)
    ]


def test_the_quota_of_active_jobs_is_part_of_the_forecast(make_front: Callable[..., Any]) -> None:
    front = make_front(active=1)
    front.worker()
    front.submit("ann/1", ms=1000)
    front.submit("ann/2", ms=1000)
    assert starts(front) == {"ann/2": 1000}


def test_a_long_queue_is_continued_at_the_pace_of_the_workers(front: Any) -> None:
    front.worker(slots=1)
    waiting = HORIZON + 50
    for number in range(waiting + 1):
        front.submit(f"{'ann' if number % 2 else 'bob'}/{number}", ms=1000, after="bob/0" if number == 100 else None)
    assert list(starts(front).values()) == [1000 * place for place in range(1, waiting + 1)]


def test_in_a_long_queue_a_turn_of_a_job_that_still_runs_has_a_place(front: Any) -> None:
    front.worker(slots=2)
    front.submit("eve/long", ms=10_000_000)
    front.submit("eve/next", after="eve/long")
    for number in range(HORIZON + 20):
        front.submit(f"ann/{number}", ms=1000)
    assert "eve/next" in starts(front)


def test_jobs_wait_for_the_end_of_a_job_in_quarantine(front: Any) -> None:
    front.worker()
    front.submit("bob/suspect", ms=1000, deaths=1)
    front.submit("ann/1", ms=1000)
    front.submit("eve/1", ms=1000)
    assert starts(front) == {"ann/1": 1000, "eve/1": 1000}


def test_in_a_long_queue_a_job_for_a_worker_that_is_still_starting_has_a_place_and_no_time(front: Any) -> None:
    front.tell(WorkerExpected("large"))
    front.worker(slots=1)
    front.submit("eve/large", state=5000)
    for number in range(HORIZON + 20):
        front.submit(f"ann/{number}")
    assert [name for name, at in starts(front).items() if at is None] == ["eve/large"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5000)), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_when_costs_are_right_and_one_job_runs_at_a_time_the_forecast_is_exact(jobs: list[tuple[str, int]]) -> None:
    scheduler = Scheduler(Limits(100, 100, 100))
    requests = [JobRequest(JobKey(user, str(i)), JobCost(1, 1, ms), i) for i, (user, ms) in enumerate(jobs)]
    scheduler.handle_all([Submitted(request) for request in requests], 0)
    actions = scheduler.handle(WorkerReady(WorkerOffer("gpu0", 100, 0, 1)), 0)
    promised = {a.key: a.starts_in_ms for a in actions if isinstance(a, PlaceChanged)}
    costs = {request.key: request.cost.milliseconds for request in requests}
    now, actual = 0, {}
    while started := [action.key for action in actions if isinstance(action, Start)]:
        (running,) = started
        actual[running] = now
        now += costs[running]
        scheduler.handle(Progressed(running, costs[running], 0), now)
        actions = scheduler.handle(Succeeded(running), now)
    assert {key: at for key, at in actual.items() if at} == promised
