"""Preemptible jobs give way to all others: at their start, on the worker that they hold, and in the accounts."""

from __future__ import annotations

from typing import Any

from qied.scheduling.model import Failed, Progressed, Requeued, Stop
from qied.scheduling.record import MOST_PREEMPTIONS
from tests.scheduling.actions import finish_all, key


def gives_way(front: Any, name: str) -> list[Any]:
    """The worker's answer to a Stop."""
    actions: list[Any] = front.tell(Failed(key(name), "job_cancelled", "cancelled"))
    return actions


def stops(actions: list[Any]) -> list[str]:
    return [f"{action.key.user}/{action.key.job}" for action in actions if isinstance(action, Stop)]


def test_preemptible_jobs_start_after_everybodys_other_jobs(front: Any) -> None:
    front.submit("ann/night", preemptible=True, priority=10, preview=True)
    front.submit("ann/own")
    front.submit("bob/other", priority=-10)
    assert front.places_by_name()[-1] == "ann/night"
    front.worker(slots=1)
    assert finish_all(front) == ["ann/own", "bob/other", "ann/night"]


def test_preemptible_jobs_leave_half_of_the_places_to_others_though_their_user_is_alone(front: Any) -> None:
    front.worker(slots=4)
    for number in range(4):
        front.submit(f"ann/night{number}", preemptible=True)
    assert front.running() == ["ann/night0", "ann/night1"]
    assert stops(front.submit("ann/own")) == []
    assert front.running() == ["ann/night0", "ann/night1", "ann/own"]


def test_a_users_edits_have_a_place_although_that_users_preemptible_ones_run(front: Any) -> None:
    front.worker(slots=4)
    front.submit("bob/there", ms=1)
    front.succeed("bob/there")
    for number in range(2):
        front.submit(f"ann/night{number}", preemptible=True)
    front.submit("ann/own")
    assert front.running() == ["ann/night0", "ann/night1", "ann/own"], "the last place is for bob, one is for ann"
    front.submit("ann/second")
    assert "ann/second" not in front.running()


def test_a_job_on_the_only_place_is_stopped_for_another_one_and_runs_again_afterwards(front: Any) -> None:
    front.worker(slots=1)
    front.submit("ann/night", preemptible=True)
    assert stops(front.submit("bob/other")) == ["ann/night"]
    assert stops(front.submit("bob/second")) == [], "room is being made already"
    actions = gives_way(front, "ann/night")
    assert [action.deaths for action in actions if isinstance(action, Requeued)] == [0]
    assert finish_all(front) == ["bob/other", "bob/second", "ann/night"]
    assert front.outcome("ann/night") == "succeeded"


def test_a_job_that_was_stopped_often_keeps_its_place_until_it_ends(front: Any) -> None:
    front.worker(slots=1)
    front.submit("ann/night", preemptible=True)
    for number in range(MOST_PREEMPTIONS):
        assert stops(front.submit(f"bob/{number}")) == ["ann/night"]
        gives_way(front, "ann/night")
        front.succeed(f"bob/{number}")
    assert stops(front.submit("bob/patient")) == []
    front.succeed("ann/night")
    assert front.running() == ["bob/patient"]


def test_the_job_that_has_done_the_least_is_stopped_and_no_more_than_are_needed(front: Any) -> None:
    front.worker(budget=1000, weights=0, slots=4)
    front.submit("ann/early", preemptible=True, state=300, arena=0, ms=1000)
    front.submit("ann/late", preemptible=True, state=300, arena=0, ms=1000)
    front.tell(Progressed(key("ann/early"), 900, 100))
    assert stops(front.submit("bob/large", state=600, arena=0)) == ["ann/late"]


def test_one_that_ends_while_it_is_to_give_way_has_ended(front: Any) -> None:
    front.worker(slots=1)
    front.submit("ann/night", preemptible=True)
    front.submit("bob/other")
    front.succeed("ann/night")
    assert front.outcome("ann/night") == "succeeded"
    assert front.running() == ["bob/other"]


def test_one_that_fails_while_it_is_to_give_way_has_failed(front: Any) -> None:
    front.worker(slots=1)
    front.submit("ann/night", preemptible=True)
    front.submit("bob/other")
    front.tell(Failed(key("ann/night"), "job_failed", "no"))
    assert front.outcome("ann/night") == "failed"


def test_jobs_that_are_not_preemptible_are_never_stopped(front: Any) -> None:
    front.worker(slots=1)
    front.submit("ann/long")
    assert stops(front.submit("bob/other")) == []


def test_nothing_preemptible_starts_where_another_job_waits_for_room(front: Any) -> None:
    front.worker(budget=1000, weights=0, slots=8)
    front.submit("bob/running", state=500, arena=0)
    front.submit("bob/large", state=900, arena=0)
    front.submit("ann/night", state=10, arena=0, preemptible=True)
    assert front.running() == ["bob/running"]
    front.succeed("bob/running")
    assert front.running() == ["bob/large", "ann/night"]


def test_a_night_of_preemptible_work_does_not_count_against_its_user_by_day(front: Any) -> None:
    front.worker(slots=1)
    for number in range(5):
        front.submit(f"ann/night{number}", preemptible=True, ms=100_000)
        front.tell(Progressed(key(f"ann/night{number}"), 100_000, 0), after_ms=100_000)
        front.succeed(f"ann/night{number}")
    front.submit("bob/now", ms=1000)
    front.submit("ann/first", ms=1000)
    front.submit("bob/second", ms=1000)
    front.succeed("bob/now", after_ms=1000)
    assert front.running() == ["ann/first"]
    assert {user.user: user.served_ms for user in front.scheduler.snapshot().users}["ann"] == 500_000


def test_batches_of_two_users_share_what_is_left_alike(front: Any) -> None:
    front.worker(slots=2)
    for number in range(3):
        for user in ("ann", "bob"):
            front.submit(f"{user}/{number}", preemptible=True)
    assert [name.split("/")[0] for name in finish_all(front)] == ["ann", "bob"] * 3


def test_a_preemptible_jobs_quota_counts_apart_from_the_edits_of_its_user(make_front: Any) -> None:
    front = make_front(active=1)
    front.worker(slots=4)
    front.submit("ann/night", preemptible=True)
    front.submit("ann/own")
    assert front.running() == ["ann/night", "ann/own"]
