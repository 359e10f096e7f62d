"""The front's scheduler: events in, actions out. It has no clock; time comes with each event.

Rules: a worker's promises stay within its budget (`ledger`); the user served least is next (`queue`); a job that does
not fit is not overtaken for ever (`placement`); a job that was active when a worker died by itself runs alone from
then on, and is poisoned when a worker dies of it again while it is alone, so its neighbours never are. If the host's
memory ran out, jobs that were active together run alone from then on, and only one that was alone is blamed. Whatever
waits for another worker or for memory waits for a busy worker, whose next report is the event that lets it continue.
Workers that are unloaded are woken when a job waits that could start on them (`standby`). Preemptible jobs start where
no other job waits for the place; one that holds a place which another job needs is stopped and waits again, with its
work lost, but at most ``MOST_PREEMPTIONS`` times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from qied_client.errors import QiedError, ShuttingDown

from qied.scheduling import refusal
from qied.scheduling.estimate import predict
from qied.scheduling.model import (
    Action,
    CancelRequested,
    Conclude,
    DrainRequested,
    Event,
    Failed,
    JobCost,
    JobKey,
    JobRequest,
    Limits,
    LoadRequested,
    MemoryWithheld,
    Outcome,
    PlaceChanged,
    Progressed,
    QueuePaused,
    QueueResumed,
    Requeued,
    Start,
    Stop,
    Submitted,
    Succeeded,
    Tick,
    Unload,
    UnloadRequested,
    UsersSeen,
    WaitReason,
    WaitReasonChanged,
    Wake,
    WorkerExpected,
    WorkerLost,
    WorkerOffer,
    WorkerReady,
)
from qied.scheduling.placement import Placement
from qied.scheduling.queue import FairQueue
from qied.scheduling.record import JobRecord, WorkerRecord
from qied.scheduling.standby import Standby, has_use_for
from qied.scheduling.view import SchedulerView, view_of

MAX_REQUEUES = 16
POISONED_DEATHS = 2
REFRESH_MS = 1_000
REFRESH_MS_PER_JOB = 20
NOTICEABLE_MS = 1_000


class Scheduler:
    """Decides which accepted job runs on which worker and when; the same events give the same actions.

    An event about a job that is unknown, has ended or is not in the state that the event speaks of is stale and
    changes nothing. Events must come from a job's current worker: those of a lost one are to be dropped before.
    Workers with nothing to do for ``idle_unload_ms`` are unloaded at the next ``Tick``; 0: never.
    """

    def __init__(self, limits: Limits, idle_unload_ms: int = 0) -> None:
        self._limits = limits
        self._jobs: dict[JobKey, JobRecord] = {}
        self._blocked: dict[JobKey, list[JobRecord]] = {}
        self._expected: dict[str, WorkerOffer | None] = {}
        self._queue = FairQueue()
        self._placement = Placement(limits.active_per_user)
        self._standby = Standby(idle_unload_ms)
        self._paused = False
        self._wait_reason: WaitReason = ""
        self._draining = False
        self._now = 0
        self._told_at = 0
        self._actions: list[Action] = []

    def handle(self, event: Event, now_ms: int) -> list[Action]:
        """Take in one event at ``now_ms`` milliseconds (any origin) and return the actions to take, in order."""
        return self.handle_all((event,), now_ms)

    def handle_all(self, events: Iterable[Event], now_ms: int) -> list[Action]:
        """Take in events of one moment together: they apply in order, then jobs are started and places told once."""
        self._now = max(self._now, now_ms)
        changes = [self._apply(event) for event in events]
        held_until = self._placement.held_until_ms
        if any(changes) or (held_until is not None and self._now >= held_until):
            self._start_jobs()
            self._wake_worker()
            self._tell_wait_reason()
            self._tell_places()
        elif self._now - self._told_at >= max(REFRESH_MS, REFRESH_MS_PER_JOB * self._queue.waiting):
            self._tell_places()
        actions, self._actions = self._actions, []
        return actions

    def check_admission(
        self, user: str, cost: JobCost, accepting: Mapping[str, int] = MappingProxyType({})
    ) -> QiedError | None:
        """Say why a job may not be accepted now, or None; to be asked before the job is journaled.

        ``accepting`` counts, by user, the jobs that were let through before and are not submitted yet.
        """
        if self._draining:
            return ShuttingDown("The daemon is stopping and accepts no more jobs.", "Submit the job again later.")
        if self._too_large(cost):
            return refusal.above_cap(cost, self._offers())
        own_waiting = self._queue.waiting_of(user) + accepting.get(user, 0)
        if own_waiting >= self._limits.queued_per_user:
            return refusal.over_quota(user, own_waiting, self._limits)
        waiting = self._queue.waiting + sum(accepting.values())
        if waiting >= self._limits.queue_total:
            return refusal.queue_full(waiting, self._limits)
        return None

    def snapshot(self) -> SchedulerView:
        """The state after the last event, for people."""
        return view_of(
            self._placement.workers.values(), self._queue, self._jobs.values(), self._now, self._draining, self._paused
        )

    def _apply(self, event: Event) -> bool:
        """Change the state; True when jobs may start or places may move because of it."""
        match event:
            case Progressed(key, spent, remaining):
                return self._progressed(key, spent, remaining)
            case Submitted(request):
                return self._submitted(request)
            case Succeeded(key):
                return self._succeeded(key)
            case Failed():
                return self._failed(event)
            case CancelRequested(key):
                return self._cancel(key)
            case WorkerExpected() | WorkerReady() | WorkerLost():
                return self._worker_changed(event)
            case MemoryWithheld(name, size):
                return self._withhold(name, size)
            case DrainRequested():
                self._draining = True
                return True
            case QueuePaused() | QueueResumed():
                self._paused = isinstance(event, QueuePaused)
                return True
            case UsersSeen(users):
                self._queue.see(users, self._now)
                return False
            case UnloadRequested() | LoadRequested() | Tick():
                return self._standby_changed(event)

    def _worker_changed(self, event: WorkerExpected | WorkerReady | WorkerLost) -> bool:
        match event:
            case WorkerExpected(name):
                if name not in self._placement.workers:
                    self._expected.setdefault(name, None)
            case WorkerReady(offer):
                self._lose(offer.worker, blame=False)
                self._expected.pop(offer.worker, None)
                self._standby.is_up(offer.worker)
                self._placement.workers[offer.worker] = WorkerRecord(offer)
            case WorkerLost(name, blame, for_memory):
                lost = self._lose(name, blame, for_memory=for_memory)
                if lost is not None:
                    self._expected[name] = lost.offer
                self._standby.is_late(name)
        self._refuse_too_large(list(self._jobs.values()))
        return True

    def _standby_changed(self, event: UnloadRequested | LoadRequested | Tick) -> bool:
        if self._draining:
            return False
        match event:
            case UnloadRequested():
                names = [*self._placement.workers, *(name for name in self._expected if not self._standby.sleeps(name))]
            case LoadRequested():
                self._actions += [Wake(name) for name in self._standby.wake_all()]
                return True
            case Tick():
                names = [
                    worker.name
                    for worker in list(self._placement.workers.values())
                    if self._standby.idle_for_too_long(worker, self._now, busy=self._has_use_for(worker))
                ]
        for name in names:
            self._unload(name)
        return bool(names)

    def _unload(self, name: str) -> None:
        """Put a worker to sleep: it is expected back, as large as it was."""
        lost = self._lose(name, blame=False, reason="the owner freed the card's memory")
        if lost is not None:
            self._expected[name] = lost.offer
        self._standby.put_to_sleep(name)
        self._actions.append(Unload(name))

    def _has_use_for(self, worker: WorkerRecord) -> bool:
        return not self._paused and has_use_for(worker, self._queue, self._limits.active_per_user)

    def _wake_worker(self) -> None:
        """Wake an unloaded worker if a job waits that could start on it, and not only for its session's worker."""
        if self._paused or self._draining or self._placement.held_until_ms is not None:
            return
        cap = self._limits.active_per_user
        name = self._standby.wake_one(self._expected, self._queue, cap)
        if name is None and not self._placement.workers:
            name = self._standby.wake_one({}, self._queue, cap)  # it may come back larger; if not, the job is refused
        if name is not None:
            self._actions.append(Wake(name))

    def _tell_wait_reason(self) -> None:
        reason: WaitReason = "" if self._placement.workers else self._standby.wait_reason
        if self._paused:
            reason = "paused"
        if reason != self._wait_reason:
            self._wait_reason = reason
            self._actions.append(WaitReasonChanged(reason))

    def _withhold(self, name: str, size: int) -> bool:
        worker = self._placement.workers.get(name)
        if worker is None or worker.withheld_bytes == size:
            return False
        worker.withheld_bytes = size
        self._placement.give_up_hopeless(worker)
        return True

    def _submitted(self, request: JobRequest) -> bool:
        if request.key in self._jobs:
            return False
        waits_for = request.depends_on if request.depends_on in self._jobs else None
        job = JobRecord(request, request.deaths, alone=request.alone or request.deaths > 0, waits_for=waits_for)
        self._jobs[job.key] = job
        self._queue.see((job.key.user,), self._now)
        if waits_for is not None:
            self._blocked.setdefault(waits_for, []).append(job)
        self._queue.of(job).add(job)
        self._refuse_too_large([job])
        return True

    def _progressed(self, key: JobKey, spent: int, remaining: int) -> bool:
        job = self._jobs.get(key)
        if job is not None and job.worker is not None:
            self._queue.of(job).charge(job, max(0, spent))
            job.remaining_ms = max(0, remaining)
        return False

    def _succeeded(self, key: JobKey) -> bool:
        job = self._jobs.get(key)
        if job is None or job.waits_for is not None:
            return False
        if job.worker is not None:
            self._queue.of(job).charge(job, job.remaining_ms)
        self._remove(job)
        for follower in self._blocked.pop(key, ()):
            self._queue.of(follower).unblock(follower)
        return True

    def _failed(self, event: Failed) -> bool:
        job = self._jobs.get(event.key)
        if job is None or job.worker is None:
            return False
        if job.preempted and not job.stopping and event.code == "job_cancelled":
            job.preemptions += 1
            self._return(job, "it gave way to an edit that somebody waits for")
        elif job.stopping or event.code == "job_cancelled":
            self._conclude_cancelled(job)
        elif not event.retry_smaller:
            self._conclude(job, "failed", event.code, event.message, event.remedy)
        elif job.alone:
            message = f"Out of memory although the job ran alone: {event.message}"
            self._conclude(job, "failed", "out_of_memory", message, event.remedy or "Ask for a smaller picture.")
        else:
            job.alone = True
            self._requeue(job, "out of memory next to other jobs; runs alone next")
        return True

    def _cancel(self, key: JobKey) -> bool:
        job = self._jobs.get(key)
        if job is None or job.stopping:
            return False
        if job.worker is None:
            self._conclude_cancelled(job)
            return True
        job.stopping = True
        if not job.preempted:
            self._actions.append(Stop(job.worker.name, key))
        return False

    def _lose(self, name: str, blame: bool, reason: str = "", *, for_memory: bool = False) -> WorkerRecord | None:
        """Drop a worker; its active jobs wait again or end. Returns its last record, None when it was not there."""
        worker = self._placement.drop(name)
        if worker is None:
            return None
        counts = blame and not (for_memory and len(worker.active) > 1)
        if blame and not counts:
            reason = "the host's memory ran out next to other jobs; runs alone next"
        reason = reason or ("the worker died" if counts else "the worker was stopped from outside")
        for job in sorted(worker.active.values(), key=lambda job: job.order):
            if job.stopping:
                self._conclude_cancelled(job)
                continue
            job.deaths += counts
            job.alone = job.alone or blame
            # A job with a death behind it only ever starts alone, so nobody else can have caused this second one.
            if counts and job.deaths >= POISONED_DEATHS:
                message = f"{job.deaths} workers died while they ran this job, the last one with nothing else active."
                self._conclude(
                    job, "poisoned", "job_poisoned", message, "Change the request, and report this as a bug."
                )
            else:
                self._requeue(job, reason)
        return worker

    def _requeue(self, job: JobRecord, reason: str) -> None:
        if job.requeues >= MAX_REQUEUES:
            message = f"Given up after {MAX_REQUEUES} further attempts; the last one ended because {reason}."
            self._conclude(job, "failed", "job_failed", message, "Submit the job again.")
            return
        job.requeues += 1
        self._return(job, reason)

    def _return(self, job: JobRecord, reason: str) -> None:
        """Let an active job wait again."""
        assert job.worker is not None
        del job.worker.active[job.key]
        job.worker = None
        job.remaining_ms = 0
        job.preempted = False
        self._queue.of(job).requeue(job)
        self._actions.append(Requeued(job.key, job.deaths, reason))

    def _too_large(self, cost: JobCost) -> bool:
        """Whether no worker that is there, or that is to come as far as is known, could ever hold the job."""
        if not self._placement.workers or self._draining:
            return False
        to_come = any(offer is None or WorkerRecord(offer).fits_empty(cost) for offer in self._expected.values())
        return not to_come and not self._placement.fits_somewhere(cost)

    def _refuse_too_large(self, jobs: Iterable[JobRecord]) -> None:
        for job in jobs:
            if job.worker is None and job.key in self._jobs and self._too_large(job.cost):
                error = refusal.above_cap(job.cost, self._offers())
                self._conclude(job, "failed", error.code, error.message, error.remedy)

    def _offers(self) -> list[WorkerOffer]:
        return [worker.offer for worker in self._placement.workers.values()]

    def _conclude_cancelled(self, job: JobRecord) -> None:
        self._conclude(job, "cancelled", "job_cancelled", "The job was cancelled.", "")

    def _conclude(self, job: JobRecord, outcome: Outcome, code: str, message: str, remedy: str) -> None:
        """End a job without a result, and all that wait for its success, however long the chain."""
        self._remove(job)
        self._actions.append(Conclude(job.key, outcome, code, message, remedy))
        ended = [job.key]
        for key in ended:
            for follower in self._blocked.pop(key, ()):
                self._remove(follower)
                message = f"Job {key.job}, whose result this job edits, did not succeed."
                remedy = "Submit both again."
                self._actions.append(Conclude(follower.key, "dependency_failed", "dependency_failed", message, remedy))
                ended.append(follower.key)

    def _remove(self, job: JobRecord) -> None:
        """Forget a job, active or waiting."""
        del self._jobs[job.key]
        if job.worker is not None:
            del job.worker.active[job.key]
            self._queue.of(job).finish(job)
            return
        if job.waits_for in self._blocked:
            self._blocked[job.waits_for].remove(job)
        self._placement.release(job)
        self._queue.of(job).remove(job)

    def _start_jobs(self) -> None:
        self._placement.held_until_ms = None
        while not self._draining and not self._paused:
            found = self._placement.next_start(self._queue, self._now)
            if found is None:
                self._make_way()
                return
            job, worker = found
            self._placement.release(job)
            self._placement.remember(job, worker)
            self._queue.of(job).start(job)
            job.worker = worker
            job.remaining_ms = job.cost.milliseconds
            job.forget_waiting()
            worker.active[job.key] = job
            worker.idle_since_ms = None
            self._actions.append(Start(worker.name, job.key, job.request.weight))

    def _make_way(self) -> None:
        """Stop preemptible jobs that keep the next other job from starting."""
        for job in self._placement.in_the_way(self._queue, self._now):
            assert job.worker is not None
            job.preempted = True
            self._actions.append(Stop(job.worker.name, job.key))

    def _tell_places(self) -> None:
        """Announce places that changed, and expected starts that moved by a second and an eighth or more."""
        self._told_at = self._now
        workers = () if self._draining else self._placement.workers.values()
        cap = self._limits.active_per_user
        placed = predict(workers, self._queue, self._blocked, cap, self._now, paused=self._paused)
        for place, (job, starts_at) in enumerate(placed, start=1):
            if job.place != place or _moved(job.starts_at_ms, starts_at, self._now):
                job.place, job.starts_at_ms = place, starts_at
                starts_in = None if starts_at is None else starts_at - self._now
                self._actions.append(PlaceChanged(job.key, place, starts_in))


def _moved(before_ms: int | None, after_ms: int | None, now_ms: int) -> bool:
    if before_ms is None or after_ms is None:
        return before_ms is not after_ms
    return abs(after_ms - before_ms) > max(NOTICEABLE_MS, abs(before_ms - now_ms) // 8)
