"""Places and expected starts of waiting jobs, by playing the schedule forward from the expected costs.

An estimate, not a promise: active jobs of a worker share its time equally, preemptible jobs start after all others, a
user's jobs start by priority, of equals all previews first, and where the next user's job does not fit, ``LOOKAHEAD``
users behind it are tried. The first ``HORIZON`` jobs are played start by start; the rest follow in fair order at the
pace of all workers together. O(n log n) for n waiting jobs.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush

from qied.scheduling.model import JobKey
from qied.scheduling.queue import FairQueue
from qied.scheduling.record import JobRecord, WorkerRecord
from qied.scheduling.user_queues import UserQueue

LOOKAHEAD = 4
HORIZON = 100
_UNITS = 1 << 10  # a lane's virtual time has this many units per millisecond, so that equal shares stay integers


def predict(
    workers: Iterable[WorkerRecord],
    queue: FairQueue,
    blocked: Mapping[JobKey, Sequence[JobRecord]],
    cap: int,
    now_ms: int,
    *,
    paused: bool = False,
) -> list[tuple[JobRecord, int | None]]:
    """Order all waiting jobs by predicted start, each with that time in milliseconds, None where it cannot be told.

    ``blocked`` has the jobs that wait for another job's success, by that job's key; ``cap`` limits a user's active
    jobs; times are on the scale of ``now_ms``. ``paused``: nothing starts for now.
    """
    forecast = _Forecast([_Lane(worker, now_ms, paused) for worker in workers], queue, blocked, cap, now_ms)
    forecast.play(min(HORIZON, queue.waiting))
    forecast.place_rest()
    return forecast.placed


class _Lane:
    """One worker: its virtual time advances by 1/k of real time while k jobs share it."""

    __slots__ = (
        "_alone",
        "_arena",
        "_free",
        "_kind",
        "_most",
        "_room",
        "_running",
        "_slots",
        "_time",
        "_virtual",
        "ends_at",
    )

    def __init__(self, worker: WorkerRecord, now_ms: int, closed: bool) -> None:
        self._kind = worker.offer.kind
        self._room = self._free = worker.offer.budget_bytes - worker.offer.weights_bytes - worker.withheld_bytes
        self._most = worker.offer.max_active
        self._slots = 0 if closed else self._most
        self._running: list[tuple[int, int, JobRecord]] = []
        self._arena = 0
        self._alone = False
        self._time, self._virtual = now_ms, 0
        self.ends_at: int | None = None
        for job in worker.active.values():
            self.start(job, now_ms, job.remaining_ms)

    @property
    def load(self) -> tuple[int, int]:
        """Jobs that run, and when the first of them ends: the lane with the least takes the next job."""
        return len(self._running), self.ends_at or 0

    @property
    def open(self) -> bool:
        """Whether a slot is free."""
        return len(self._running) < self._slots and not self._alone

    @property
    def takes_jobs(self) -> bool:
        """Whether jobs start here at all."""
        return self._slots > 0

    def jobs(self) -> list[JobRecord]:
        """The jobs that run."""
        return [job for _, _, job in self._running]

    def could_hold(self, job: JobRecord) -> bool:
        """Whether the job fits when nothing else runs."""
        return sum(job.cost.on(self._kind)) <= self._room

    def fits(self, job: JobRecord, users: frozenset[str]) -> bool:
        """Whether the job can start in addition to those that run; see ``WorkerRecord.leaves_place``."""
        if not self.open or (job.alone and self._running):
            return False
        state, arena = job.cost.on(self._kind)
        beside = self.jobs()
        if job.preemptible:
            ours = sum(other.preemptible for other in beside)
            return ours < max(1, self._most // 2) and state + max(self._arena, arena) <= self._free
        here = {other.key.user for other in beside if not other.preemptible}
        places = 2 if job.key.user in here and not here.issuperset(users) else 1
        return len(self._running) + places <= self._slots and places * state + max(self._arena, arena) <= self._free

    def start(self, job: JobRecord, now_ms: int, milliseconds: int) -> None:
        """Run a job that needs ``milliseconds`` of the worker's time."""
        self._advance(now_ms)
        state, arena = job.cost.on(self._kind)
        self._free -= state
        self._arena = max(self._arena, arena)
        self._alone = job.alone
        heappush(self._running, (self._virtual + milliseconds * _UNITS, job.order, job))
        self._predict()

    def finish(self) -> JobRecord:
        """Let the job end that ends first, at ``ends_at``."""
        assert self.ends_at is not None
        self._advance(self.ends_at)
        virtual, _, job = heappop(self._running)
        self._virtual = max(self._virtual, virtual)
        self._free += job.cost.on(self._kind)[0]
        self._arena = max((other.cost.on(self._kind)[1] for other in self.jobs()), default=0)
        self._alone = False
        self._predict()
        return job

    def _advance(self, now_ms: int) -> None:
        if self._running:
            self._virtual += (now_ms - self._time) * _UNITS // len(self._running)
        self._time = now_ms

    def _predict(self) -> None:
        if not self._running:
            self.ends_at = None
            return
        left = max(0, self._running[0][0] - self._virtual)
        self.ends_at = self._time - (-left * len(self._running) // _UNITS)


class _Client:
    """One user: expected charge, active jobs, and waiting jobs with the next one last."""

    __slots__ = ("active", "charged", "pending", "preemptible", "queued")

    def __init__(self, user: UserQueue, charged: int) -> None:
        self.preemptible = user.preemptible
        self.charged = charged
        self.active = len(user.active)
        self.pending = sorted(map(_rank, user.ready()))
        self.queued = False


class _Forecast:
    """The schedule played forward; ``placed`` holds jobs and their starts in predicted order."""

    def __init__(
        self,
        lanes: list[_Lane],
        queue: FairQueue,
        blocked: Mapping[JobKey, Sequence[JobRecord]],
        cap: int,
        now_ms: int,
    ) -> None:
        self.placed: list[tuple[JobRecord, int | None]] = []
        self._now = now_ms
        self._cap = cap
        self._blocked = blocked
        self._lanes = lanes
        self._users = queue.seen(now_ms)
        self._clients = {
            (user.preemptible, user.name): _Client(user, queue.charged_ms(user)) for user in queue.queues()
        }
        self._next: list[tuple[bool, int, int, _Client]] = []
        for client in self._clients.values():
            self._enqueue(client)

    def play(self, jobs: int) -> None:
        """Start and finish jobs until ``jobs`` of them are placed or nothing moves any more."""
        while len(self.placed) < jobs and (self._start_one() or self._finish_one()):
            pass

    def place_rest(self) -> None:
        """Give the others the places behind, in fair order; no time if nothing runs or no worker could hold the job."""
        pace = [lane for lane in self._lanes if lane.takes_jobs]
        soonest = min((lane.ends_at for lane in pace if lane.ends_at is not None), default=None)
        for client in self._clients.values():
            client.active = 0
            self._enqueue(client)
        for job in [job for lane in self._lanes for job in lane.jobs()]:
            self._unblock(job.key)
        ahead_ms = 0
        while self._next:
            client = self._pop()
            job = client.pending[-1][-1]
            starts_at = None
            if soonest is not None and any(lane.could_hold(job) for lane in pace):
                starts_at = soonest + ahead_ms // len(pace)
                ahead_ms += job.cost.milliseconds
            self._place(client, starts_at)
            self._unblock(job.key)
            self._enqueue(client)

    def _start_one(self) -> bool:
        """Start the next user's next job, or that of a user shortly behind it."""
        aside: list[_Client] = []
        started = False
        lanes = [lane for lane in self._lanes if lane.open]
        while lanes and self._next and not started and len(aside) <= LOOKAHEAD:
            client = self._pop()
            job = client.pending[-1][-1]
            fitting = [lane for lane in lanes if lane.fits(job, self._users)]
            if fitting:
                self._place(client, self._now)
                client.active += 1
                min(fitting, key=lambda lane: lane.load).start(job, self._now, job.cost.milliseconds)
                started = True
            aside.append(client)
        for client in aside:
            self._enqueue(client)
        return started

    def _finish_one(self) -> bool:
        """Advance to the next end of a job; False when none runs."""
        ends = [(lane.ends_at, index) for index, lane in enumerate(self._lanes) if lane.ends_at is not None]
        if not ends:
            return False
        self._now, index = min(ends)
        job = self._lanes[index].finish()
        client = self._client(job)
        client.active -= 1
        self._enqueue(client)
        self._unblock(job.key)
        return True

    def _place(self, client: _Client, starts_at: int | None) -> None:
        job = client.pending.pop()[-1]
        client.charged += job.cost.milliseconds
        self.placed.append((job, starts_at))

    def _unblock(self, key: JobKey) -> None:
        for job in self._blocked.get(key, ()):
            client = self._client(job)
            insort(client.pending, _rank(job))
            self._enqueue(client)

    def _client(self, job: JobRecord) -> _Client:
        return self._clients[job.preemptible, job.key.user]

    def _enqueue(self, client: _Client) -> None:
        if client.pending and client.active < self._cap and not client.queued:
            client.queued = True
            heappush(self._next, (client.preemptible, client.charged, client.pending[-1][-1].order, client))

    def _pop(self) -> _Client:
        client = heappop(self._next)[3]
        client.queued = False
        return client


def _rank(job: JobRecord) -> tuple[bool, int, bool, int, JobRecord]:
    """Sort key whose largest value starts first: returned jobs, then by priority, previews and order."""
    returned = job.requeues > 0
    return returned, job.request.priority, job.request.preview and not returned, -job.order, job
