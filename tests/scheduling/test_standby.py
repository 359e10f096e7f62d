"""Pausing the queue, and workers that give their memory back."""

from __future__ import annotations

from typing import Any

from qied.scheduling.model import (
    DrainRequested,
    LoadRequested,
    MemoryWithheld,
    QueuePaused,
    QueueResumed,
    Requeued,
    Tick,
    Unload,
    UnloadRequested,
    WaitReasonChanged,
    Wake,
    WorkerExpected,
    WorkerLost,
)
from tests.scheduling.actions import finish_all, started


def test_while_the_queue_is_paused_running_jobs_go_on_and_nothing_starts(front: Any) -> None:
    front.worker(slots=1)
    front.submit("ann/1")
    front.submit("ann/2")
    assert front.tell(QueuePaused()) == [WaitReasonChanged("paused"), front.log[-1][2][-1]]
    assert front.starts_in[next(iter(front.waiting))] is None
    front.submit("bob/1")
    assert started(front.succeed("ann/1")) == []
    assert front.scheduler.snapshot().paused
    actions = front.tell(QueueResumed())
    assert started(actions) == ["bob/1"]
    assert WaitReasonChanged("") in actions


def test_a_turn_that_waits_for_a_running_one_has_a_place_while_the_queue_is_paused(front: Any) -> None:
    front.worker(slots=1)
    front.submit("ann/1")
    front.submit("ann/2", after="ann/1")
    front.tell(QueuePaused())
    front.submit("ann/3")
    assert front.places_by_name() == ["ann/2", "ann/3"]


def test_an_idle_worker_is_unloaded_after_its_time_and_woken_by_the_next_job(make_front: Any) -> None:
    front = make_front(idle_unload_ms=1000)
    front.worker()
    front.submit("ann/1")
    assert front.tell(Tick(), after_ms=5000) == []
    front.succeed("ann/1")
    assert front.tell(Tick(), after_ms=10) == []
    assert front.tell(Tick(), after_ms=999) == []
    assert front.tell(Tick(), after_ms=1) == [Unload("gpu0")]
    actions = front.submit("ann/2")
    assert actions[:2] == [Wake("gpu0"), WaitReasonChanged("loading")]
    assert [action for action in front.submit("ann/3") if isinstance(action, Wake)] == []
    assert started(front.worker()) == ["ann/2", "ann/3"]


def test_a_job_between_two_ticks_begins_the_idle_time_afresh(make_front: Any) -> None:
    front = make_front(idle_unload_ms=1000)
    front.worker()
    front.tell(Tick())
    front.submit("ann/1", wait_ms=900)
    front.succeed("ann/1")
    assert front.tell(Tick(), after_ms=200) == []
    assert front.tell(Tick(), after_ms=1000) == [Unload("gpu0")]


def test_without_an_idle_time_no_worker_is_unloaded(front: Any) -> None:
    front.worker()
    assert front.tell(Tick(), after_ms=10**9) == []


def test_a_worker_with_jobs_that_wait_for_its_memory_is_not_idle(make_front: Any) -> None:
    front = make_front(idle_unload_ms=1000)
    front.worker(budget=1000, weights=0)
    front.tell(MemoryWithheld("gpu0", 1000))
    front.submit("ann/1")
    front.tell(Tick())
    assert Unload("gpu0") not in front.tell(Tick(), after_ms=5000)


def test_in_a_paused_queue_a_worker_is_idle_whatever_waits(make_front: Any) -> None:
    front = make_front(idle_unload_ms=1000)
    front.tell(QueuePaused())
    front.worker()
    front.submit("ann/1")
    front.tell(Tick())
    assert front.tell(Tick(), after_ms=1000) == [Unload("gpu0")]
    assert Wake("gpu0") in front.tell(QueueResumed())


def test_an_unloaded_worker_gives_its_jobs_back_without_blame(front: Any) -> None:
    front.worker()
    front.submit("ann/1")
    front.tell(QueuePaused())
    actions = front.tell(UnloadRequested())
    assert [type(action) for action in actions[:2]] == [Requeued, Unload]
    assert actions[0].deaths == 0
    assert front.tell(UnloadRequested()) == []
    assert front.tell(LoadRequested()) == [Wake("gpu0")]
    front.worker()
    front.tell(QueueResumed())
    assert finish_all(front) == ["ann/1"]


def test_only_as_many_cards_are_woken_as_the_jobs_need(front: Any) -> None:
    front.worker("gpu0", slots=1)
    front.worker("gpu1", slots=1)
    front.tell(UnloadRequested())
    assert Wake("gpu0") in front.submit("ann/1")
    assert Wake("gpu1") not in front.worker("gpu0", slots=1)
    assert Wake("gpu1") in front.submit("ann/2")


def test_another_card_is_woken_where_the_first_one_is_taken_by_another_program(front: Any) -> None:
    front.worker("gpu0")
    front.worker("gpu1")
    front.tell(UnloadRequested())
    assert Wake("gpu0") in front.submit("ann/1")
    assert Wake("gpu1") in front.tell(WorkerLost("gpu0", blame=False))
    assert front.reason == "loading"
    front.tell(WorkerLost("gpu1", blame=False))
    assert front.reason == "late"
    assert started(front.worker("gpu1")) == ["ann/1"]


def test_jobs_beyond_a_users_share_do_not_wake_a_card(make_front: Any) -> None:
    front = make_front(active=1)
    front.worker("gpu0")
    front.worker("gpu1")
    front.tell(UnloadRequested())
    front.submit("ann/1")
    front.submit("ann/2")
    assert Wake("gpu1") not in front.worker("gpu0")


def test_a_job_that_is_too_large_for_what_a_worker_had_still_wakes_it_and_is_then_refused(front: Any) -> None:
    front.worker(budget=100, weights=0)
    front.tell(UnloadRequested())
    assert Wake("gpu0") in front.submit("ann/big", state=500)
    front.worker(budget=100, weights=0)
    assert front.outcome("ann/big") == "failed"


def test_a_worker_that_is_still_loading_is_unloaded_as_well(front: Any) -> None:
    front.tell(WorkerExpected("gpu0"))
    assert front.tell(UnloadRequested()) == [Unload("gpu0")]
    assert Wake("gpu0") in front.submit("ann/1")


def test_a_daemon_that_stops_wakes_and_unloads_nothing(front: Any) -> None:
    front.worker()
    front.tell(UnloadRequested())
    front.tell(DrainRequested())
    assert front.tell(LoadRequested()) == []
    assert front.asleep == {"gpu0"}
