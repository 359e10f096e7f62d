"""The scheduler's mutable records of jobs and workers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from qied.scheduling.ledger import Ledger, ledger_of
from qied.scheduling.model import JobCost, JobKey, JobRequest, WorkerOffer

MOST_PREEMPTIONS = 3
"""How often a preemptible job is stopped for another one before it keeps its place until it ends."""


@dataclass(eq=False, slots=True)
class JobRecord:
    """A job that has not ended. It is active while ``worker`` is set, and blocked while ``waits_for`` is.

    ``preempted``: it was stopped for another job, and will wait again.
    """

    request: JobRequest
    deaths: int
    alone: bool
    waits_for: JobKey | None = None
    worker: WorkerRecord | None = None
    remaining_ms: int = 0
    requeues: int = 0
    stopping: bool = False
    preempted: bool = False
    preemptions: int = 0
    overtakes: int = 0
    overtaken_since_ms: int | None = None
    held_since_ms: int | None = None
    reserved: WorkerRecord | None = None
    place: int | None = None
    starts_at_ms: int | None = None

    @property
    def key(self) -> JobKey:
        """The job's identity."""
        return self.request.key

    @property
    def cost(self) -> JobCost:
        """What the job takes."""
        return self.request.cost

    @property
    def order(self) -> int:
        """Position of acceptance."""
        return self.request.order

    @property
    def preemptible(self) -> bool:
        """Whether it gives way to all jobs that are not."""
        return self.request.preemptible

    @property
    def may_be_preempted(self) -> bool:
        """Whether it may be stopped for another job; that costs its work, so not for ever."""
        return self.preemptible and not self.stopping and not self.preempted and self.preemptions < MOST_PREEMPTIONS

    def forget_waiting(self) -> None:
        """Clear what only concerns a waiting job."""
        self.overtakes = 0
        self.overtaken_since_ms = self.held_since_ms = None
        self.place = self.starts_at_ms = None


@dataclass(eq=False, slots=True)
class WorkerRecord:
    """A worker that is there, the jobs active on it, and the waiting job that it is kept free for, if any.

    ``withheld_bytes`` of its budget are held by other programs for now. ``idle_since_ms`` is when it was first seen
    with nothing to do, None since its last start.
    """

    offer: WorkerOffer
    active: dict[JobKey, JobRecord] = field(default_factory=dict)
    reserved_for: JobRecord | None = None
    withheld_bytes: int = 0
    idle_since_ms: int | None = None

    @property
    def name(self) -> str:
        return self.offer.worker

    @property
    def ledger(self) -> Ledger:
        """The ledger as the active jobs give it."""
        return ledger_of(self.offer, (job.cost for job in self.active.values()), self.withheld_bytes)

    @property
    def outstanding_ms(self) -> int:
        """Expected GPU milliseconds until all active jobs are done."""
        return sum(job.remaining_ms for job in self.active.values())

    def fits_empty(self, cost: JobCost) -> bool:
        """Whether a job of this cost fits when nothing else is active."""
        return ledger_of(self.offer).fits(cost)

    def fits_empty_now(self, cost: JobCost) -> bool:
        """The same within what other programs leave of the budget for now."""
        return ledger_of(self.offer, (), self.withheld_bytes).fits(cost)

    def can_hold(self, job: JobRecord, beside: Collection[JobRecord]) -> bool:
        """Whether ``job`` may be active together with the jobs ``beside``: slots, quarantine and bytes."""
        if len(beside) >= self.offer.max_active or (job.alone and beside):
            return False
        if any(other.alone for other in beside):
            return False
        return ledger_of(self.offer, (other.cost for other in beside), self.withheld_bytes).fits(job.cost)

    @property
    def has_preemptible_place(self) -> bool:
        """Whether one more preemptible job leaves half of the places to others; a worker's only place may be taken."""
        here = sum(other.preemptible for other in self.active.values())
        return here < max(1, self.offer.max_active // 2)

    def leaves_place(self, job: JobRecord, users: Collection[str], active: Collection[JobRecord]) -> bool:
        """Whether ``job`` next to ``active`` leaves room for one more like it, where one of ``users`` has none there.

        A user's second job must leave it: the next user would otherwise wait until one of many long jobs has ended,
        which all share the worker's time. Preemptible jobs do not count as their user's.
        """
        here = {other.key.user for other in active if not other.preemptible}
        if job.key.user not in here or here.issuperset(users):
            return True
        beside = [*active, job]
        return len(beside) < self.offer.max_active and ledger_of(
            self.offer, (other.cost for other in beside), self.withheld_bytes
        ).fits(job.cost)

    def wait_ms(self, job: JobRecord) -> int:
        """Predict the milliseconds until ``job`` can be held, if active jobs share time equally and none is added.

        The job must fit on the empty worker; memory that is withheld is taken to be back by then.
        """
        assert self.fits_empty(job.cost)
        beside = sorted(self.active.values(), key=lambda other: (other.remaining_ms, other.order))
        elapsed, done = 0, 0
        while beside and not self.can_hold(job, beside):
            elapsed += (beside[0].remaining_ms - done) * len(beside)
            done = beside.pop(0).remaining_ms
        return elapsed
