"""Priorities order one user's jobs and nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qied.scheduling.model import WorkerLost
from qied.scheduling.user_queues import PREVIEWS_AHEAD
from tests.scheduling.actions import finish_all

PRIORITIES = st.lists(st.integers(-10, 10), min_size=1, max_size=12)
PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(PRIORITIES)
@PROPERTY
def test_the_highest_priority_starts_first_and_equals_by_order(make_front: Any, priorities: list[int]) -> None:
    front = make_front()
    for number, priority in enumerate(priorities):
        front.submit(f"ann/{number}", priority=priority)
    expected = sorted(range(len(priorities)), key=lambda number: (-priorities[number], number))
    assert front.places_by_name() == [f"ann/{number}" for number in expected]
    front.worker(slots=1)
    assert finish_all(front) == [f"ann/{number}" for number in expected]


@given(PRIORITIES, st.integers(1, 3))
@PROPERTY
def test_a_users_turns_do_not_depend_on_priorities(make_front: Any, priorities: list[int], slots: int) -> None:
    def users(of_ann: list[int]) -> list[str]:
        front = make_front()
        for number, priority in enumerate(of_ann):
            front.submit(f"ann/{number}", ms=1000, priority=priority)
            front.submit(f"bob/{number}", ms=700)
        front.worker(slots=slots)
        return [name.split("/")[0] for name in finish_all(front)]

    assert users(priorities) == users([0] * len(priorities))


def test_an_urgent_job_starts_before_a_preview_and_a_background_preview_last(front: Any) -> None:
    front.submit("ann/usual")
    front.submit("ann/background", priority=-5, preview=True)
    front.submit("ann/preview", preview=True)
    front.submit("ann/urgent", priority=5)
    front.worker(slots=1)
    assert finish_all(front) == ["ann/urgent", "ann/preview", "ann/usual", "ann/background"]


def test_a_job_in_the_background_does_not_go_before_usual_previews(front: Any) -> None:
    front.submit("ann/background", priority=-5)
    names = [f"ann/{number}" for number in range(PREVIEWS_AHEAD + 2)]
    for name in names:
        front.submit(name, preview=True)
    front.worker(slots=1)
    assert finish_all(front) == [*names, "ann/background"]


def test_a_job_whose_worker_was_lost_goes_before_an_urgent_one(front: Any) -> None:
    front.worker(slots=1)
    front.submit("ann/usual")
    front.submit("ann/urgent", priority=5)
    front.tell(WorkerLost("gpu0", blame=False))
    assert front.places_by_name() == ["ann/usual", "ann/urgent"]
