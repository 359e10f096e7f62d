"""Where a job runs: the search for the next start, with session affinity, quarantine and reservations.

A job that does not fit now may be overtaken, but not for ever: after ``OVERTAKES`` later starts on workers that it
could have used, or ``OVERTAKEN_MS`` after the first of them, one worker is kept free for it until it fits there.
While somebody else who is connected has no job on a worker, its last place is not for a user's second job there.
Preemptible jobs take at most half of a worker's places, and none that another job waits for.
"""

from __future__ import annotations

from collections.abc import Sequence

from qied.scheduling.model import Demand, JobCost
from qied.scheduling.queue import FairQueue
from qied.scheduling.record import JobRecord, WorkerRecord
from qied.scheduling.user_queues import UserQueue

OVERTAKES = 8
OVERTAKEN_MS = 30_000
AFFINITY_WAIT_MS = 2_000
MAX_SESSIONS = 4_096


class Placement:
    """The workers that are there, and which of them each session last ran on."""

    def __init__(self, active_per_user: int) -> None:
        self.workers: dict[str, WorkerRecord] = {}
        self.held_until_ms: int | None = None
        self._active_per_user = active_per_user
        self._sessions: dict[tuple[str, str], str] = {}

    def fits_somewhere(self, cost: JobCost) -> bool:
        """Whether some worker that is there could hold a job of this cost if it were empty."""
        return any(worker.fits_empty(cost) for worker in self.workers.values())

    def drop(self, name: str) -> WorkerRecord | None:
        """Forget a worker and what sessions it has in its memory; returns its last record."""
        worker = self.workers.pop(name, None)
        if worker is not None:
            if worker.reserved_for is not None:
                self.release(worker.reserved_for)
            self._sessions = {session: last for session, last in self._sessions.items() if last != name}
        return worker

    @staticmethod
    def release(job: JobRecord) -> None:
        """Give up the reservation of a job, if it has one."""
        if job.reserved is not None:
            job.reserved.reserved_for = None
            job.reserved = None

    def remember(self, job: JobRecord, worker: WorkerRecord) -> None:
        """Note that the job's session now lives on ``worker``; the sessions noted first are forgotten first."""
        session = _session_of(job)
        if session is not None:
            self._sessions.pop(session, None)
            self._sessions[session] = worker.name
            if len(self._sessions) > MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]

    def next_start(self, queue: FairQueue, now_ms: int) -> tuple[JobRecord, WorkerRecord] | None:
        """Find the next job to start and its worker, None when nothing can start now.

        Counts the overtakes that the start means, makes reservations that have become due, and leaves in
        ``held_until_ms`` when a job that waits for its session's worker stops doing so.
        """
        self.held_until_ms = None
        if all(len(worker.active) >= worker.offer.max_active for worker in self.workers.values()):
            return None
        refused: set[tuple[Demand, bool]] = set()
        passed: list[JobRecord] = []
        users = queue.seen(now_ms)
        waiting: list[JobRecord] = []
        for accounts in (queue.foreground, queue.preemptible):
            for user in accounts.in_order():
                found = self._search(user, users, refused, passed, waiting, now_ms)
                if found is not None:
                    _count_overtakes(passed, found[1], now_ms)
                    return found
            waiting, passed = passed, []
        return None

    def in_the_way(self, queue: FairQueue, now_ms: int) -> list[JobRecord]:
        """The preemptible jobs to stop so that the next other job can start; to be asked when no job can start.

        Those with the most work to come are stopped, which have lost the least. None where room is being made already.
        """
        if not any(job.preemptible for worker in self.workers.values() for job in worker.active.values()):
            return []
        users = queue.seen(now_ms)
        tried: set[tuple[Demand, bool]] = set()
        for user in queue.foreground.in_order():
            if len(user.active) >= self._active_per_user:
                continue
            for job in user.ready():
                demand = (job.cost.demand, job.alone)
                if demand in tried:
                    continue
                tried.add(demand)
                ways = [way for worker in self.workers.values() if (way := _way_for(job, worker, users)) is not None]
                if ways:
                    return min(ways, key=lambda way: (len(way), sum(-other.remaining_ms for other in way)))
        return []

    def _search(
        self,
        user: UserQueue,
        users: frozenset[str],
        refused: set[tuple[Demand, bool]],
        passed: list[JobRecord],
        waiting: Sequence[JobRecord],
        now_ms: int,
    ) -> tuple[JobRecord, WorkerRecord] | None:
        """Look through one user's jobs; its first refused one joins ``passed``, all demands refused ``refused``.

        ``users`` are those who are here, for whom a place is left; no preemptible job starts where one of ``waiting``
        could.
        """
        reserved = sum(
            w.reserved_for is not None
            and w.reserved_for.key.user == user.name
            and w.reserved_for.preemptible == user.preemptible
            for w in self.workers.values()
        )
        spare = self._active_per_user - len(user.active) - reserved
        if spare < 1 and not reserved:
            return None
        first_refused = True
        kept_from: set[tuple[Demand, bool]] = set()
        for job in user.ready():
            demand = (job.cost.demand, job.alone)
            if demand in kept_from and job.reserved is None:
                continue
            if job.reserved is None and (spare < 1 or (demand in refused and not first_refused)):
                continue
            able = self._able(job) if job.reserved is not None or demand not in refused else []
            if able and (job.reserved is None or job.preemptible):
                able = [worker for worker in able if _leaves_room(job, worker, users, waiting)]
                if not able:
                    kept_from.add(demand)
                    continue
            if able:
                worker = self._prefer(job, able, now_ms)
                if worker is not None:
                    return job, worker
                continue
            refused.add(demand)
            if first_refused:
                first_refused = False
                passed.append(job)
                if self._reserve_if_due(job, now_ms):
                    spare -= 1
        return None

    def _able(self, job: JobRecord) -> list[WorkerRecord]:
        """Workers that can take the job now."""
        return [
            worker
            for worker in self.workers.values()
            if (worker.reserved_for is None or worker.reserved_for is job or _outranks(job, worker.reserved_for))
            and worker.can_hold(job, worker.active.values())
        ]

    def _prefer(self, job: JobRecord, able: list[WorkerRecord], now_ms: int) -> WorkerRecord | None:
        """Choose among workers that can take the job now: its session's, else the least busy; None to hold it back."""
        session = _session_of(job)
        home = self.workers.get(self._sessions.get(session, "")) if session is not None else None
        if home in able:
            return home
        if home is not None and self._worth_waiting(job, home, now_ms):
            return None
        return min(able, key=lambda worker: (worker.outstanding_ms, worker.offer.budget_bytes, worker.name))

    def _worth_waiting(self, job: JobRecord, home: WorkerRecord, now_ms: int) -> bool:
        if home.reserved_for is not None or not home.fits_empty(job.cost):
            return False
        if job.reserved is not None or home.wait_ms(job) > AFFINITY_WAIT_MS:
            return False
        if job.held_since_ms is None:
            job.held_since_ms = now_ms
        until = job.held_since_ms + AFFINITY_WAIT_MS
        if now_ms >= until:
            return False
        self.held_until_ms = until if self.held_until_ms is None else min(until, self.held_until_ms)
        return True

    def give_up_hopeless(self, worker: WorkerRecord) -> None:
        """End the reservation of a worker which has not the memory for it now: another one may come sooner."""
        job = worker.reserved_for
        if job is not None and not worker.fits_empty_now(job.cost):
            self.release(job)

    def _reserve_if_due(self, job: JobRecord, now_ms: int) -> bool:
        """Keep the worker that is soonest free enough for a job that was overtaken too often or for too long."""
        if job.reserved is not None or job.overtaken_since_ms is None:
            return False
        if job.overtakes < OVERTAKES and now_ms - job.overtaken_since_ms < OVERTAKEN_MS:
            return False
        usable = [
            worker
            for worker in self.workers.values()
            # A worker whose memory others hold may never be free enough, so nothing is kept from it meanwhile.
            if (worker.reserved_for is None or _outranks(job, worker.reserved_for)) and worker.fits_empty_now(job.cost)
        ]
        if not usable:
            return False
        job.reserved = min(usable, key=lambda worker: (worker.wait_ms(job), worker.name))
        if job.reserved.reserved_for is not None:
            self.release(job.reserved.reserved_for)
        job.reserved.reserved_for = job
        return True


def _outranks(job: JobRecord, other: JobRecord) -> bool:
    return other.preemptible and not job.preemptible


def _leaves_room(job: JobRecord, worker: WorkerRecord, users: frozenset[str], waiting: Sequence[JobRecord]) -> bool:
    """Whether a job leaves a worker's places to those who should have them."""
    if not job.preemptible:
        return worker.leaves_place(job, users, worker.active.values())
    return worker.has_preemptible_place and not any(worker.fits_empty_now(other.cost) for other in waiting)


def _way_for(job: JobRecord, worker: WorkerRecord, users: frozenset[str]) -> list[JobRecord] | None:
    """The fewest preemptible jobs whose end lets ``job`` start on the worker; None where that does not help."""
    if worker.reserved_for not in (None, job) and not (worker.reserved_for and _outranks(job, worker.reserved_for)):
        return None
    staying = [other for other in worker.active.values() if not other.preempted and not other.stopping]
    if _can_take(job, worker, users, staying):
        return [] if len(staying) < len(worker.active) else None
    stopped: list[JobRecord] = []
    for other in sorted(staying, key=lambda other: (other.remaining_ms, other.order), reverse=True):
        if other.may_be_preempted:
            stopped.append(other)
            staying.remove(other)
            if _can_take(job, worker, users, staying):
                return stopped
    return None


def _can_take(job: JobRecord, worker: WorkerRecord, users: frozenset[str], beside: list[JobRecord]) -> bool:
    return worker.can_hold(job, beside) and worker.leaves_place(job, users, beside)


def _session_of(job: JobRecord) -> tuple[str, str] | None:
    session = job.request.session
    return None if session is None else (job.key.user, session)


def _count_overtakes(passed: list[JobRecord], worker: WorkerRecord, now_ms: int) -> None:
    for job in passed:
        if worker.fits_empty(job.cost):
            job.overtakes += 1
            if job.overtaken_since_ms is None:
                job.overtaken_since_ms = now_ms
