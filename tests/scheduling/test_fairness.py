"""Whose job is next, and how long a big one can be overtaken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qied.scheduling.model import (
    CancelRequested,
    JobKey,
    Progressed,
    UsersSeen,
    WorkerExpected,
    WorkerLost,
)
from qied.scheduling.placement import OVERTAKEN_MS, OVERTAKES
from qied.scheduling.queue import COLLEAGUE_MS
from qied.scheduling.user_queues import CREDIT_MS, PREVIEWS_AHEAD
from tests.scheduling.actions import finish_all, key


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


def test_a_place_is_kept_for_somebody_else_who_is_connected(front: Any) -> None:
    front.worker(slots=4)
    front.tell(UsersSeen(frozenset({"ann"})))
    for number in range(8):
        front.submit(f"eve/{number}", ms=60_000)
    assert front.running() == ["eve/0", "eve/1", "eve/2"]
    front.submit("ann/1")
    assert front.running() == ["eve/0", "eve/1", "eve/2", "ann/1"]
    front.succeed("ann/1")
    assert front.running() == ["eve/0", "eve/1", "eve/2"]


def test_so_is_its_memory(front: Any) -> None:
    front.worker(budget=100 + 20 + 3 * 10)
    front.tell(UsersSeen(frozenset({"ann"})))
    for number in range(8):
        front.submit(f"eve/{number}")
    assert front.running() == ["eve/0", "eve/1"]
    front.submit("ann/1")
    assert front.running() == ["eve/0", "eve/1", "ann/1"]


def test_a_worker_with_one_place_is_used_by_whoever_is_there(front: Any) -> None:
    front.worker(slots=1)
    front.tell(UsersSeen(frozenset({"ann"})))
    front.submit("eve/0")
    assert front.running() == ["eve/0"]


def test_somebody_who_is_alone_or_all_who_are_here_fill_a_worker(front: Any) -> None:
    front.worker(slots=4)
    front.tell(UsersSeen(frozenset({"ann"})))
    for number in range(8):
        front.submit(f"eve/{number}", wait_ms=COLLEAGUE_MS if number == 0 else 0)
    assert len(front.running()) == 4
    for name in front.running():
        front.succeed(name)
    front.submit("ann/1")
    assert len(front.running()) == 4


def test_the_forecast_knows_of_the_place_that_is_kept(front: Any) -> None:
    front.worker(slots=2)
    front.tell(UsersSeen(frozenset({"ann"})))
    for number in range(3):
        front.submit(f"eve/{number}", ms=60_000)
    assert front.starts_in[key("eve/1")] == 60_000


def test_a_job_that_may_not_take_the_last_place_is_not_given_it_for_having_waited(front: Any) -> None:
    front.worker(slots=3)
    front.tell(UsersSeen(frozenset({"ann"})))
    for number in range(4):
        front.submit(f"eve/{number}", ms=10 * OVERTAKEN_MS)
    for number in range(OVERTAKES + 2):
        front.submit(f"ann/{number}", ms=100)
        assert f"ann/{number}" in front.running()
        front.succeed(f"ann/{number}", after_ms=OVERTAKEN_MS)
    assert front.running() == ["eve/0", "eve/1"]
