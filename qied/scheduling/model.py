"""The scheduler's vocabulary: jobs and workers as data, the events it takes and the actions it returns.

Bytes, milliseconds and counts are integers. Nothing here knows a clock, a socket or a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["cancelled", "poisoned", "dependency_failed", "failed"]
WaitReason = Literal["", "paused", "loading", "late"]
Demand = tuple[int, int, tuple[tuple[str, int, int], ...]]
"""State and arena bytes of a job, and what they are on other kinds of workers."""


@dataclass(frozen=True, order=True, slots=True)
class JobKey:
    """A job's identity: its user's name and the id that this user gave it."""

    user: str
    job: str


@dataclass(frozen=True, slots=True)
class JobCost:
    """The cost of a job: bytes held while it is active, peak bytes of its largest phase, expected GPU milliseconds.

    ``elsewhere`` holds (kind, state bytes, arena bytes) for kinds of workers on which the bytes are others.
    """

    state_bytes: int
    arena_bytes: int
    milliseconds: int
    elsewhere: tuple[tuple[str, int, int], ...] = ()

    def __post_init__(self) -> None:
        assert min(self.state_bytes, self.arena_bytes, self.milliseconds) >= 0, self

    @property
    def demand(self) -> Demand:
        """The bytes alone: jobs of the same demand fit the same workers."""
        return self.state_bytes, self.arena_bytes, self.elsewhere

    def on(self, kind: str) -> tuple[int, int]:
        """State and arena bytes on a kind of worker."""
        for other, state, arena in self.elsewhere:
            if other == kind:
                return state, arena
        return self.state_bytes, self.arena_bytes


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One accepted job.

    ``order`` is the unique position of acceptance. ``deaths`` counts workers that died while they ran it, as the
    journal remembers them; ``alone``: it must run alone for another reason. ``weight`` is its share of its user's time
    on the worker that runs it. ``priority`` orders it among its user's waiting jobs, the highest first. ``preemptible``
    jobs give way to everybody's other jobs.
    """

    key: JobKey
    cost: JobCost
    order: int
    session: str | None = None
    depends_on: JobKey | None = None
    preview: bool = False
    deaths: int = 0
    weight: int = 1
    alone: bool = False
    priority: int = 0
    preemptible: bool = False


@dataclass(frozen=True, slots=True)
class WorkerOffer:
    """A worker's offer: bytes that it may use, bytes of them held by its weights, jobs that it runs at once.

    Workers of one ``kind`` take the same bytes for the same job.
    """

    worker: str
    budget_bytes: int
    weights_bytes: int
    max_active: int
    kind: str = ""

    def __post_init__(self) -> None:
        assert 0 <= self.weights_bytes <= self.budget_bytes, self
        assert self.max_active >= 1, self


@dataclass(frozen=True, slots=True)
class Limits:
    """Quotas: jobs of one user active at once, jobs of one user waiting, jobs of all users waiting."""

    active_per_user: int
    queued_per_user: int
    queue_total: int

    def __post_init__(self) -> None:
        assert min(self.active_per_user, self.queued_per_user, self.queue_total) >= 1, self


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job was accepted and journaled. A key that is waiting or active already is ignored."""

    request: JobRequest


@dataclass(frozen=True, slots=True)
class WorkerExpected:
    """A worker is starting: until it is ready, no job is refused for being too large for others."""

    worker: str


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker takes jobs from now on and holds none; the same name again means that it has started afresh."""

    offer: WorkerOffer


@dataclass(frozen=True, slots=True)
class MemoryWithheld:
    """Other programs hold ``bytes`` of a worker's budget for now: jobs start within what is left of it.

    Accepted jobs still fit the whole budget, so they wait until the memory is back.
    """

    worker: str
    bytes: int


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker is gone: by itself (``blame``) or killed from outside, and will be started again.

    ``for_memory``: the host's memory had run out, which jobs that ran together may have caused together.
    """

    worker: str
    blame: bool
    for_memory: bool = False


@dataclass(frozen=True, slots=True)
class Progressed:
    """An active job used ``milliseconds_spent`` of GPU time since its last report and expects to need the rest."""

    key: JobKey
    milliseconds_spent: int
    remaining_milliseconds: int


@dataclass(frozen=True, slots=True)
class Succeeded:
    """A job's result is there."""

    key: JobKey


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker could not finish an active job; ``retry_smaller`` when it ran out of memory."""

    key: JobKey
    code: str
    message: str
    retry_smaller: bool = False
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The user does not want the job any more; unknown and finished jobs are ignored."""

    key: JobKey


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """The daemon is stopping: nothing is started any more."""


@dataclass(frozen=True, slots=True)
class QueuePaused:
    """The owner wants the card for something else: active jobs go on, nothing else starts until ``QueueResumed``."""


@dataclass(frozen=True, slots=True)
class QueueResumed:
    """Waiting jobs start again."""


@dataclass(frozen=True, slots=True)
class UnloadRequested:
    """All workers are to give their memory back: their active jobs wait again, and the next start wakes a worker."""


@dataclass(frozen=True, slots=True)
class LoadRequested:
    """Workers that were unloaded are to come back, whether a job waits or not."""


@dataclass(frozen=True, slots=True)
class UsersSeen:
    """These users have a client that is connected."""

    users: frozenset[str]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: workers that have been idle for too long are unloaded."""


Event = (
    Submitted
    | WorkerExpected
    | WorkerReady
    | WorkerLost
    | MemoryWithheld
    | Progressed
    | Succeeded
    | Failed
    | CancelRequested
    | DrainRequested
    | QueuePaused
    | QueueResumed
    | UnloadRequested
    | LoadRequested
    | UsersSeen
    | Tick
)


@dataclass(frozen=True, slots=True)
class Start:
    """Run a job on a worker."""

    worker: str
    key: JobKey
    weight: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask a worker to abandon an active job; its answer concludes the job, or lets it wait again if it gives way."""

    worker: str
    key: JobKey


@dataclass(frozen=True, slots=True)
class Conclude:
    """A job has ended without a result: the one outcome to store."""

    key: JobKey
    outcome: Outcome
    code: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Requeued:
    """An active job waits again, first of its user's; ``deaths`` is to be journaled."""

    key: JobKey
    deaths: int
    reason: str


@dataclass(frozen=True, slots=True)
class PlaceChanged:
    """A waiting job's place (from 1, all users together, in predicted order of start) and time to its start.

    ``starts_in_ms`` counts from the event that was handled; None when nothing can be predicted.
    """

    key: JobKey
    place: int
    starts_in_ms: int | None


@dataclass(frozen=True, slots=True)
class Unload:
    """End a worker's process, so that its memory is free; it holds no job by now, and nothing that it says counts."""

    worker: str


@dataclass(frozen=True, slots=True)
class Wake:
    """Start an unloaded worker's process again."""

    worker: str


@dataclass(frozen=True, slots=True)
class WaitReasonChanged:
    """Why no waiting job starts, other than that workers are busy; empty: nothing keeps them.

    ``late``: an unloaded worker could not start again so far.
    """

    reason: WaitReason


Action = Start | Stop | Conclude | Requeued | PlaceChanged | Unload | Wake | WaitReasonChanged
