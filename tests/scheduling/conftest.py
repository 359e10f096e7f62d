from __future__ import annotations

from collections.abc import Callable

import pytest

from qied.scheduling.model import (
    Action,
    Conclude,
    Event,
    JobCost,
    JobKey,
    JobRequest,
    Limits,
    MemoryWithheld,
    PlaceChanged,
    Requeued,
    Start,
    Stop,
    Submitted,
    Succeeded,
    Unload,
    WaitReasonChanged,
    Wake,
    WorkerLost,
    WorkerOffer,
    WorkerReady,
)
from qied.scheduling.scheduler import Scheduler


class Front:
    """What a front would keep: every action of the scheduler is checked against it, then applied."""

    def __init__(self, limits: Limits, idle_unload_ms: int = 0) -> None:
        self.limits = limits
        self.scheduler = Scheduler(limits, idle_unload_ms)
        self.now = 0
        self.log: list[tuple[Event, int, list[Action]]] = []
        self.requests: dict[JobKey, JobRequest] = {}
        self.offers: dict[str, WorkerOffer] = {}
        self.active: dict[JobKey, Start] = {}
        self.waiting: set[JobKey] = set()
        self.outcomes: dict[JobKey, str] = {}
        self.places: dict[JobKey, int] = {}
        self.starts_in: dict[JobKey, int | None] = {}
        self.deaths: dict[JobKey, int] = {}
        self.stops: set[JobKey] = set()
        self.withheld: dict[str, int] = {}
        self.asleep: set[str] = set()
        self.waking: set[str] = set()
        self.reason = ""

    def tell(self, event: Event, after_ms: int = 0) -> list[Action]:
        self.now += after_ms
        match event:
            case Submitted(request) if request.key not in self.requests:
                self.requests[request.key] = request
                self.waiting.add(request.key)
            case WorkerReady(offer):
                self.offers[offer.worker] = offer
                self.withheld.pop(offer.worker, None)
                self.asleep.discard(offer.worker)
                self.waking.discard(offer.worker)
            case MemoryWithheld(name, size):
                self.withheld[name] = size
            case WorkerLost(name):
                self.offers.pop(name, None)
            case Succeeded(key) if key in self.active:
                del self.active[key]
                self._end(key, "succeeded")
        actions = self.scheduler.handle(event, self.now)
        self.log.append((event, self.now, actions))
        for action in actions:
            self._apply(action)
        for action in actions:
            if isinstance(action, Start) and action.key in self.active:
                offer = self.offers[action.worker]
                assert self.promised(action.worker) <= offer.budget_bytes - self.withheld.get(action.worker, 0)
        self.check()
        return actions

    def _apply(self, action: Action) -> None:
        match action:
            case Start(worker, key):
                assert key in self.waiting and worker in self.offers
                self.waiting.remove(key)
                self.active[key] = action
                self.places.pop(key, None)
            case Stop(worker, key):
                assert self.active[key].worker == worker and key not in self.stops
                self.stops.add(key)
            case Conclude(key, outcome):
                self.waiting.discard(key)
                self.active.pop(key, None)
                self._end(key, outcome)
            case Requeued(key, deaths):
                del self.active[key]
                self.stops.discard(key)
                self.waiting.add(key)
                self.deaths[key] = deaths
            case PlaceChanged(key, place, starts_in):
                self.places[key] = place
                self.starts_in[key] = starts_in
            case Unload(worker):
                assert not self.on(worker) and worker not in self.asleep
                self.offers.pop(worker, None)
                self.waking.discard(worker)
                self.asleep.add(worker)
            case Wake(worker):
                self.asleep.remove(worker)
                self.waking.add(worker)
            case WaitReasonChanged(reason):
                assert reason != self.reason
                self.reason = reason

    def _end(self, key: JobKey, outcome: str) -> None:
        assert key not in self.outcomes, f"{key} ended twice"
        self.outcomes[key] = outcome
        self.places.pop(key, None)

    def on(self, worker: str) -> list[Start]:
        return [start for start in self.active.values() if start.worker == worker]

    def alone(self, key: JobKey) -> bool:
        """Whether the scheduler lets an active job share its worker with no other."""
        return next(job.alone for job in self.scheduler.snapshot().active if job.key == key)

    def promised(self, worker: str) -> int:
        costs = self.costs(worker)
        return (
            self.offers[worker].weights_bytes
            + sum(state for state, _ in costs)
            + max((arena for _, arena in costs), default=0)
        )

    def costs(self, worker: str) -> list[tuple[int, int]]:
        kind = self.offers[worker].kind
        return [self.requests[start.key].cost.on(kind) for start in self.on(worker)]

    def check(self) -> None:
        for name, offer in self.offers.items():
            starts = self.on(name)
            assert self.promised(name) <= offer.budget_bytes
            assert len(starts) <= offer.max_active
            assert len(starts) == 1 or not any(self.alone(start.key) for start in starts)
        assert all(start.worker in self.offers for start in self.active.values())
        assert sorted(self.places.values()) == list(range(1, len(self.waiting) + 1))
        assert set(self.places) == self.waiting
        for user, preemptible in {(key.user, self.requests[key].preemptible) for key in self.active}:
            own = [key for key in self.active if (key.user, self.requests[key].preemptible) == (user, preemptible)]
            assert len(own) <= self.limits.active_per_user
        for name, offer in self.offers.items():
            giving_way = sum(self.requests[start.key].preemptible for start in self.on(name))
            assert giving_way <= max(1, offer.max_active // 2)
        self._check_view()

    def _check_view(self) -> None:
        view = self.scheduler.snapshot()
        assert {job.key: job.place for job in view.waiting} == self.places
        assert [job.place for job in view.waiting] == list(range(1, len(self.waiting) + 1))
        assert {job.key: job.worker for job in view.active} == {key: start.worker for key, start in self.active.items()}
        for worker in view.workers:
            costs = self.costs(worker.worker)
            assert worker.active == len(costs)
            assert worker.state_bytes == sum(state for state, _ in costs)
            assert worker.arena_bytes == max((arena for _, arena in costs), default=0)
            assert worker.free_bytes >= 0
        assert all(user.served_ms >= 0 for user in view.users)

    def submit(
        self,
        name: str,
        *,
        state: int = 10,
        arena: int = 20,
        ms: int = 1000,
        session: str | None = None,
        after: str | None = None,
        preview: bool = False,
        deaths: int = 0,
        weight: int = 1,
        priority: int = 0,
        preemptible: bool = False,
        elsewhere: tuple[int, int] | None = None,
        wait_ms: int = 0,
    ) -> list[Action]:
        """Submit the job ``user/id``; ``after`` names the job it depends on in the same way."""
        request = JobRequest(
            key=JobKey(*name.split("/")),
            cost=JobCost(state, arena, ms, () if elsewhere is None else (("other", *elsewhere),)),
            order=len(self.requests),
            session=session,
            depends_on=None if after is None else JobKey(*after.split("/")),
            preview=preview,
            deaths=deaths,
            weight=weight,
            priority=priority,
            preemptible=preemptible,
        )
        return self.tell(Submitted(request), wait_ms)

    def worker(
        self, name: str = "gpu0", *, budget: int = 1000, weights: int = 100, slots: int = 8, kind: str = ""
    ) -> list[Action]:
        return self.tell(WorkerReady(WorkerOffer(name, budget, weights, slots, kind)))

    def succeed(self, name: str, after_ms: int = 0) -> list[Action]:
        return self.tell(Succeeded(JobKey(*name.split("/"))), after_ms)

    def running(self, worker: str | None = None) -> list[str]:
        """Names of active jobs, in the order of their starts."""
        return [f"{key.user}/{key.job}" for key, s in self.active.items() if worker is None or s.worker == worker]

    def outcome(self, name: str) -> str | None:
        return self.outcomes.get(JobKey(*name.split("/")))

    def places_by_name(self) -> list[str]:
        """Names of waiting jobs by place."""
        return [f"{key.user}/{key.job}" for key in sorted(self.places, key=self.places.__getitem__)]


@pytest.fixture
def make_front() -> Callable[..., Front]:
    def make(*, active: int = 100, queued: int = 100, total: int = 1000, idle_unload_ms: int = 0) -> Front:
        return Front(Limits(active_per_user=active, queued_per_user=queued, queue_total=total), idle_unload_ms)

    return make


@pytest.fixture
def front(make_front: Callable[..., Front]) -> Front:
    return make_front()
