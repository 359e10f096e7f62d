"""Random histories: the front of conftest checks every action; what is checked here is how it all ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from qied.scheduling.model import (
    CancelRequested,
    DrainRequested,
    Failed,
    JobKey,
    Limits,
    LoadRequested,
    MemoryWithheld,
    Progressed,
    QueuePaused,
    QueueResumed,
    Start,
    Tick,
    UnloadRequested,
    WorkerExpected,
    WorkerLost,
)
from qied.scheduling.placement import OVERTAKES
from qied.scheduling.scheduler import Scheduler

WORKERS = st.sampled_from(["gpu0", "gpu1", "gpu2"])
PICK = st.integers(0, 10_000)
IDLE_MS = 1500
AFTER = st.sampled_from([0, 0, 1, 50, 1000, 2000, 31_000])


class Histories(RuleBasedStateMachine):
    """Workers crash by themselves only while a killer is active on them; everything else happens at random."""

    front_type: type[Any]

    def __init__(self) -> None:
        super().__init__()
        self.front = self.front_type(Limits(active_per_user=3, queued_per_user=1000, queue_total=1000), IDLE_MS)
        self.killers: set[JobKey] = set()
        self.paused = False

    def some(self, keys: Any, pick: int) -> JobKey:
        ordered: list[JobKey] = sorted(keys)
        return ordered[pick % len(ordered)]

    @rule(
        user=st.sampled_from("abc"),
        state=st.integers(0, 60),
        arena=st.integers(0, 60),
        ms=st.integers(0, 3000),
        session=st.sampled_from([None, "s", "t"]),
        after=st.one_of(st.none(), PICK),
        preview=st.booleans(),
        priority=st.sampled_from([0, 0, 5, -5]),
        preemptible=st.booleans(),
        killer=st.integers(0, 5),
        deaths=st.sampled_from([0, 0, 0, 1]),
        elsewhere=st.one_of(st.none(), st.tuples(st.integers(0, 60), st.integers(0, 60))),
    )
    def submit(self, user: str, after: int | None, killer: int, **fields: Any) -> None:
        number = len(self.front.requests)
        before = None
        if after is not None and self.front.requests:
            key = self.some(self.front.requests, after)
            before = f"{key.user}/{key.job}"
        if killer == 0:
            self.killers.add(JobKey(user, str(number)))
        self.front.submit(f"{user}/{number}", after=before, **fields)

    @rule(
        name=WORKERS,
        weights=st.integers(0, 50),
        free=st.integers(20, 150),
        slots=st.integers(1, 4),
        after=AFTER,
        kind=st.sampled_from(["", "other"]),
    )
    def ready(self, name: str, weights: int, free: int, slots: int, after: int, kind: str) -> None:
        self.front.now += after
        self.front.worker(name, budget=weights + free, weights=weights, slots=slots, kind=kind)

    @rule(name=WORKERS, size=st.sampled_from([0, 0, 10, 60, 500]))
    def withheld(self, name: str, size: int) -> None:
        self.front.tell(MemoryWithheld(name, size))

    @rule(name=WORKERS)
    def expected(self, name: str) -> None:
        self.front.tell(WorkerExpected(name))

    @rule(name=WORKERS)
    def killed_from_outside(self, name: str) -> None:
        self.front.tell(WorkerLost(name, blame=False))

    @rule(pause=st.booleans())
    def pause_or_resume(self, pause: bool) -> None:
        self.paused = pause
        actions = self.front.tell(QueuePaused() if pause else QueueResumed())
        assert not (pause and any(isinstance(action, Start) for action in actions))
        assert (self.front.reason == "paused") == pause

    @rule(event=st.sampled_from([UnloadRequested(), LoadRequested(), Tick(), Tick(), Tick()]), after=AFTER)
    def unload_or_load(self, event: Any, after: int) -> None:
        self.front.tell(event, after)
        if isinstance(event, LoadRequested):
            assert not self.front.asleep
        if isinstance(event, UnloadRequested):
            assert not self.front.offers and not self.front.active

    @precondition(lambda self: self.front.waking)
    @rule(pick=PICK, free=st.integers(120, 150))
    def woken(self, pick: int, free: int) -> None:
        names = sorted(self.front.waking)
        self.front.worker(names[pick % len(names)], budget=free, weights=0, slots=2)

    @invariant()
    def nothing_waits_in_front_of_workers_that_sleep(self) -> None:
        if self.front.asleep and not self.paused and not self.front.offers:
            blocked = {key for key, request in self.front.requests.items() if request.depends_on in self.front.waiting}
            assert self.front.waking or not self.front.waiting - blocked

    @precondition(lambda self: self.killers & set(self.front.active))
    @rule(pick=PICK)
    def crash(self, pick: int) -> None:
        killer = self.some(self.killers & set(self.front.active), pick)
        self.front.tell(WorkerLost(self.front.active[killer].worker, blame=True))

    @precondition(lambda self: self.front.active)
    @rule(pick=PICK, spent=st.integers(0, 500), remaining=st.integers(0, 5000), after=AFTER)
    def progress(self, pick: int, spent: int, remaining: int, after: int) -> None:
        self.front.tell(Progressed(self.some(self.front.active, pick), spent, remaining), after)

    @precondition(lambda self: self.front.active)
    @rule(pick=PICK, after=AFTER)
    def succeed(self, pick: int, after: int) -> None:
        key = self.some(self.front.active, pick)
        self.front.succeed(f"{key.user}/{key.job}", after)

    @precondition(lambda self: self.front.active)
    @rule(pick=PICK, retry=st.booleans())
    def fail(self, pick: int, retry: bool) -> None:
        self.front.tell(Failed(self.some(self.front.active, pick), "job_failed", "no", retry_smaller=retry))

    @precondition(lambda self: self.front.stops & set(self.front.active))
    @rule(pick=PICK, after=AFTER)
    def stopped(self, pick: int, after: int) -> None:
        key = self.some(self.front.stops & set(self.front.active), pick)
        self.front.tell(Failed(key, "job_cancelled", "cancelled"), after)

    @precondition(lambda self: self.front.requests)
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        key = self.some(self.front.requests, pick)
        actions = self.front.tell(CancelRequested(key))
        if key in self.front.active or key not in self.front.outcomes:
            assert key in self.front.stops
        assert self.front.tell(CancelRequested(key)) == []
        assert actions == [] or key in self.front.outcomes or key in self.front.stops

    def teardown(self) -> None:
        self.front.tell(QueueResumed())
        for name in ("gpu0", "gpu1", "gpu2"):
            self.front.tell(WorkerLost(name, blame=False))
        self.front.worker("large", budget=10_000, weights=0, slots=8)
        while self.front.active:
            key = min(self.front.active)
            if key in self.killers:
                self.front.tell(WorkerLost("large", blame=True))
                self.front.worker("large", budget=10_000, weights=0, slots=8)
            elif key in self.front.stops:
                self.front.tell(Failed(key, "job_cancelled", ""))
            else:
                self.front.succeed(f"{key.user}/{key.job}", 10)
        assert set(self.front.outcomes) == set(self.front.requests)
        poisoned = {key for key, outcome in self.front.outcomes.items() if outcome == "poisoned"}
        assert poisoned <= self.killers, "an innocent was poisoned"
        again = Scheduler(self.front.limits, IDLE_MS)
        for event, now, actions in self.front.log:
            assert again.handle(event, now) == actions, "the same events gave other actions"


@pytest.mark.parametrize("examples", [80])
def test_every_history_ends_with_one_outcome_per_job_and_no_innocent_poisoned(front: Any, examples: int) -> None:
    machine = type("HistoriesOfThisFront", (Histories,), {"front_type": type(front)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=60), st.integers(1, 4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_two_users_with_jobs_waiting_are_served_alike(make_front: Any, steps: list[int], slots: int) -> None:
    """Served milliseconds differ by at most one job's cost with one slot, by slots + 1 of them with more.

    As long as the worker itself serves the users alike whose jobs are active.
    """
    front = make_front()
    front.worker(slots=slots)
    costs = {"a": 3000, "b": 700}
    for user in "ab":
        for number in range(slots + 2):
            front.submit(f"{user}/{number}", ms=costs[user])
    left: dict[JobKey, int] = {}
    served = {"a": 0, "b": 0}
    submitted = 0
    for milliseconds in steps * 5:
        for key in front.active:
            left.setdefault(key, front.requests[key].cost.milliseconds)
        key = min(front.active, key=lambda key: (served[key.user], key))
        spent = min(milliseconds, left[key])
        left[key] -= spent
        served[key.user] += spent
        front.tell(Progressed(key, spent, left[key]), after_ms=spent)
        if left[key] == 0:
            front.succeed(f"{key.user}/{key.job}")
            submitted += 1
            front.submit(f"{key.user}/{submitted + 100}", ms=costs[key.user])
        allowed = 3000 if slots == 1 else (slots + 1) * 3000
        assert abs(served["a"] - served["b"]) <= allowed


@given(st.lists(st.tuples(st.integers(1, 900), st.integers(1, 2000)), min_size=120, max_size=120), st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_job_that_needs_the_whole_worker_is_not_starved(
    make_front: Any, others: list[tuple[int, int]], quarantine: bool
) -> None:
    front = make_front()
    front.worker(budget=1000, weights=0, slots=4)
    for number, (state, ms) in enumerate(others[:6]):
        front.submit(f"eve/{number}", state=state, arena=0, ms=ms)
    front.submit("bob/big", state=1 if quarantine else 1000, arena=0, ms=1, deaths=int(quarantine))
    ran = 0
    for number, (state, ms) in enumerate(others[6:], start=6):
        if "bob/big" in front.running():
            break
        front.succeed(front.running()[number % len(front.active)], after_ms=1)
        ran += 1
        front.submit(f"eve/{number}", state=state, arena=0, ms=ms)
    assert front.running() == ["bob/big"]
    assert ran <= OVERTAKES + 2 * 4


@given(st.lists(st.tuples(st.sampled_from(["submit", "succeed", "lose", "ready"]), PICK), max_size=40))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_nothing_starts_once_the_daemon_drains(make_front: Any, steps: list[tuple[str, int]]) -> None:
    front = make_front()
    front.worker(slots=3)
    for number in range(5):
        front.submit(f"ann/{number}")
    front.tell(DrainRequested())
    before = set(front.active)
    for step, pick in steps:
        if step == "submit":
            front.submit(f"bob/{len(front.requests)}")
        elif step == "succeed" and front.active:
            front.succeed(front.running()[pick % len(front.active)])
        elif step == "lose":
            front.tell(WorkerLost("gpu0", blame=bool(pick % 2)))
        elif step == "ready":
            front.worker("gpu1")
        assert set(front.active) <= before
