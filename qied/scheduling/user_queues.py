"""Who is next within one class: waiting jobs per user, users in order of least served GPU time.

Each user has a virtual time: the GPU milliseconds of its jobs, raised to the others' level when it comes back, so that
absence earns nothing and a newcomer does not shut the others out. The user with the least virtual time plus expected
rest of its active jobs is next. A user whose jobs cannot start keeps at most ``CREDIT_MS`` of what it misses.
Priorities order the jobs of one user; which user is next does not depend on them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge
from itertools import chain, islice

from qied.scheduling.model import JobKey
from qied.scheduling.record import JobRecord

CREDIT_MS = 60_000
PREVIEWS_AHEAD = 4


def _rank(job: JobRecord) -> tuple[int, int]:
    return -job.request.priority, job.order


def _level(job: JobRecord) -> int:
    return -job.request.priority


def _oldest(jobs: list[JobRecord]) -> int:
    """Order of the oldest of some jobs, which is the first one unless they differ in priority."""
    return jobs[0].order if _level(jobs[0]) == _level(jobs[-1]) else min(job.order for job in jobs)


@dataclass(eq=False, slots=True)
class UserQueue:
    """One user's jobs and account.

    Every waiting job is in exactly one of the four lists, each sorted by priority and then by order.
    """

    name: str
    preemptible: bool = False
    virtual_ms: int = 0
    served_ms: int = 0
    active: dict[JobKey, JobRecord] = field(default_factory=dict)
    returned: list[JobRecord] = field(default_factory=list)
    previews: list[JobRecord] = field(default_factory=list)
    regular: list[JobRecord] = field(default_factory=list)
    blocked: list[JobRecord] = field(default_factory=list)
    previews_ahead: int = 0

    def list_of(self, job: JobRecord) -> list[JobRecord]:
        """The list that a waiting job belongs to."""
        if job.waits_for is not None:
            return self.blocked
        if job.requeues:
            return self.returned
        return self.previews if job.request.preview else self.regular

    @property
    def waiting(self) -> int:
        """Number of waiting jobs, blocked ones included."""
        return len(self.returned) + len(self.previews) + len(self.regular) + len(self.blocked)

    def ready(self) -> Iterator[JobRecord]:
        """Jobs that could start, in this user's order: returned ones, then by priority, of equals previews first.

        After ``PREVIEWS_AHEAD`` previews in a row the oldest other job goes before the previews of its priority.
        """
        first = 1 if self.previews_ahead >= PREVIEWS_AHEAD and self._other_is_level() else 0
        by_priority = merge(self.previews, islice(self.regular, first, None), key=_level)
        return chain(self.returned, islice(self.regular, first), by_priority)

    def _other_is_level(self) -> bool:
        """Whether the first job that is not a preview has the priority of the first preview at least."""
        if not self.regular or not self.previews:
            return False
        return _level(self.regular[0]) <= _level(self.previews[0])


class UserQueues:
    """The jobs of one class, by user. Jobs move waiting -> active -> gone, or active -> waiting again."""

    def __init__(self, *, preemptible: bool = False) -> None:
        self._preemptible = preemptible
        self.users: dict[str, UserQueue] = {}
        self.waiting = 0
        self._idle_floor = 0
        self._start_tag = 0

    def user(self, name: str) -> UserQueue:
        """The queue of one user, made when it is new."""
        return self.users.setdefault(name, UserQueue(name, self._preemptible))

    def charged_ms(self, user: UserQueue) -> int:
        """Served virtual time and the expected rest of its active jobs: the user with the least is next."""
        return self._virtual_ms(user) + sum(job.remaining_ms for job in user.active.values())

    def in_order(self) -> list[UserQueue]:
        """Users with a job that could start, the next one first; equal ones by their oldest such job."""
        ranked = []
        for user in self.users.values():
            oldest = min((_oldest(jobs) for jobs in (user.returned, user.previews, user.regular) if jobs), default=None)
            if oldest is not None:
                ranked.append((self.charged_ms(user), oldest, user))
        return [user for _, _, user in sorted(ranked, key=lambda rank: rank[:2])]

    def add(self, job: JobRecord) -> None:
        """Let a job wait."""
        user = self.user(job.key.user)
        if not user.waiting and not user.active:
            others = [self._virtual_ms(other) for other in self.users.values() if other.waiting or other.active]
            user.virtual_ms = max(user.virtual_ms, min(others, default=self._idle_floor))
        insort(user.list_of(job), job, key=_rank)
        self.waiting += 1

    def remove(self, job: JobRecord) -> None:
        """Take a waiting job out, because it ends."""
        self._take(job)
        self._leave(self.user(job.key.user))

    def unblock(self, job: JobRecord) -> None:
        """Let a blocked job start from now on: what it waited for has succeeded."""
        self._take(job)
        job.waits_for = None
        insort(self.user(job.key.user).list_of(job), job, key=_rank)
        self.waiting += 1

    def start(self, job: JobRecord) -> None:
        """Move a waiting job to the active ones."""
        user = self.user(job.key.user)
        self._take(job)
        if job.request.preview and not job.requeues:
            user.previews_ahead = user.previews_ahead + 1 if user.regular else 0
        elif not job.requeues:
            user.previews_ahead = 0
        user.virtual_ms = self._virtual_ms(user)
        self._start_tag = max(self._start_tag, user.virtual_ms)
        user.active[job.key] = job

    def charge(self, job: JobRecord, milliseconds: int) -> None:
        """Count GPU time of an active job for its user."""
        user = self.user(job.key.user)
        user.virtual_ms += milliseconds
        user.served_ms += milliseconds

    def requeue(self, job: JobRecord) -> None:
        """Move an active job back to the waiting ones; its user was never away."""
        user = self.user(job.key.user)
        insort(user.list_of(job), job, key=_rank)
        self.waiting += 1
        del user.active[job.key]

    def finish(self, job: JobRecord) -> None:
        """Drop an active job, because it has ended."""
        user = self.user(job.key.user)
        del user.active[job.key]
        self._leave(user)

    def _virtual_ms(self, user: UserQueue) -> int:
        return max(user.virtual_ms, self._start_tag - CREDIT_MS)

    def _take(self, job: JobRecord) -> None:
        jobs = self.user(job.key.user).list_of(job)
        position = bisect_left(jobs, _rank(job), key=_rank)
        assert jobs[position] is job
        del jobs[position]
        self.waiting -= 1

    def _leave(self, user: UserQueue) -> None:
        if not any(other.waiting or other.active for other in self.users.values()):
            self._idle_floor = max(self._idle_floor, user.virtual_ms)
