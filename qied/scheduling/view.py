"""The scheduler's state for people: a frozen snapshot for `qied ps` and the status message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qied.scheduling.model import JobKey
from qied.scheduling.queue import FairQueue
from qied.scheduling.record import JobRecord, WorkerRecord
from qied.scheduling.user_queues import UserQueue


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker's ledger in bytes, and how many jobs are active of how many that may be."""

    worker: str
    budget_bytes: int
    weights_bytes: int
    state_bytes: int
    arena_bytes: int
    free_bytes: int
    active: int
    max_active: int
    reserved_for: JobKey | None


@dataclass(frozen=True, slots=True)
class ActiveView:
    """One active job and the GPU milliseconds that it is expected to need still."""

    key: JobKey
    worker: str
    alone: bool
    stopping: bool
    remaining_ms: int


@dataclass(frozen=True, slots=True)
class WaitingView:
    """One waiting job, its place from 1 and the expected milliseconds to its start."""

    key: JobKey
    place: int
    starts_in_ms: int | None
    waits_for: JobKey | None
    deaths: int


@dataclass(frozen=True, slots=True)
class UserView:
    """GPU milliseconds that one user's jobs were charged since the daemon started, and its jobs now."""

    user: str
    served_ms: int
    active: int
    waiting: int


@dataclass(frozen=True, slots=True)
class SchedulerView:
    """All of it: workers and users by name, active jobs by order of acceptance, waiting ones by place."""

    workers: tuple[WorkerView, ...]
    active: tuple[ActiveView, ...]
    waiting: tuple[WaitingView, ...]
    users: tuple[UserView, ...]
    draining: bool
    paused: bool


def view_of(
    workers: Iterable[WorkerRecord],
    queue: FairQueue,
    jobs: Iterable[JobRecord],
    now_ms: int,
    draining: bool,
    paused: bool,
) -> SchedulerView:
    """Take the snapshot."""
    by_order = sorted(jobs, key=lambda job: job.order)
    waiting = [_waiting_view(job, now_ms) for job in by_order if job.worker is None]
    return SchedulerView(
        workers=tuple(_worker_view(worker) for worker in sorted(workers, key=lambda worker: worker.name)),
        active=tuple(
            ActiveView(job.key, job.worker.name, job.alone, job.stopping, job.remaining_ms)
            for job in by_order
            if job.worker is not None
        ),
        waiting=tuple(sorted(waiting, key=lambda view: view.place)),
        users=tuple(
            _user_view(name, [each for each in queue.queues() if each.name == name])
            for name in sorted({each.name for each in queue.queues()})
        ),
        draining=draining,
        paused=paused,
    )


def _user_view(name: str, queues: Sequence[UserQueue]) -> UserView:
    return UserView(
        name,
        sum(each.served_ms for each in queues),
        sum(len(each.active) for each in queues),
        sum(each.waiting for each in queues),
    )


def _worker_view(worker: WorkerRecord) -> WorkerView:
    ledger = worker.ledger
    return WorkerView(
        worker=worker.name,
        budget_bytes=worker.offer.budget_bytes,
        weights_bytes=ledger.weights_bytes,
        state_bytes=ledger.state_bytes,
        arena_bytes=ledger.arena_bytes,
        free_bytes=max(0, ledger.free_bytes),
        active=len(worker.active),
        max_active=worker.offer.max_active,
        reserved_for=worker.reserved_for.key if worker.reserved_for is not None else None,
    )


def _waiting_view(job: JobRecord, now_ms: int) -> WaitingView:
    assert job.place is not None
    starts_in_ms = None if job.starts_at_ms is None else max(0, job.starts_at_ms - now_ms)
    return WaitingView(job.key, job.place, starts_in_ms, job.waits_for, job.deaths)
