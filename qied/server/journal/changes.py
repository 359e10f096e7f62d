"""The journal's changes, and the records it restores after a restart: plain and immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

OutcomeState = Literal["succeeded", "failed", "cancelled", "poisoned"]
Key = tuple[str, str]
"""A user's name and the name of a thing of that user (job, session or blob hash)."""


@dataclass(frozen=True)
class AcceptJob:
    """A job that is promised from now on; raises DuplicateJob for an id that is known or was released.

    ``order`` is the job's place in the order of acceptance, unique for the life of the journal. ``request`` is the
    client's request and ``spec`` the resolved order, both msgpack; ``blobs`` are the hashes that it reads.
    Times here and below are seconds since the epoch.
    """

    user: str
    job: str
    order: int
    payload_hash: str
    request: bytes
    spec: bytes
    session: str | None
    turn: int | None
    depends_on: str | None
    blobs: tuple[str, ...]
    accepted_at: float


@dataclass(frozen=True)
class CountDeath:
    """The new totals of workers that died of a job and of times that it was queued again."""

    user: str
    job: str
    deaths: int
    requeues: int


@dataclass(frozen=True)
class MarkRunning:
    """A job runs from now on, in this boot of the machine ("" where that is not known), until it is queued again."""

    user: str
    job: str
    boot: str


@dataclass(frozen=True)
class CountInterruption:
    """The new totals of a job that ran when the daemon ended: killed, or with the whole machine. It runs no more."""

    user: str
    job: str
    kills: int
    downs: int


@dataclass(frozen=True)
class ForgetRunning:
    """The daemon stops in order: what runs now is not interrupted."""


@dataclass(frozen=True, slots=True)
class StoreOutcome:
    """How a job ended. The first one counts; a second, or one for a job that is gone, has no effect.

    ``timings`` is msgpack, ``result_bytes`` the size of the result file. A result also becomes its turn's picture.
    """

    user: str
    job: str
    state: OutcomeState
    result_blob: str | None
    result_bytes: int
    media_type: str | None
    seed: int
    timings: bytes
    error_code: str | None
    error_message: str | None
    error_remedy: str | None
    finished_at: float


@dataclass(frozen=True)
class JobNote:
    """What is remembered of a finished job until neither the job nor a turn of a session is left.

    ``prompt`` is its beginning; ``warnings`` are those of its spec and of its worker.
    """

    user: str
    job: str
    number: int
    state: OutcomeState
    prompt: str
    seed: int
    accepted_at: float
    finished_at: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class StoreNote:
    """Note a job with its outcome, stored just before; no effect where that one does not count.

    ``thumbnail`` is a JPEG of at most 32 KiB, or empty.
    """

    note: JobNote
    thumbnail: bytes


@dataclass(frozen=True)
class MarkFetched:
    """The client has the result; the first mark counts, and one for a job without outcome has no effect."""

    user: str
    job: str
    fetched_at: float


@dataclass(frozen=True)
class ReleaseJob:
    """Forget a finished job and leave a tombstone; no effect on a job that is unknown or has no outcome yet."""

    user: str
    job: str
    released_at: float


@dataclass(frozen=True)
class ForgetTombstone:
    """Forget that a job was released, however lately."""

    user: str
    job: str


@dataclass(frozen=True)
class OpenSession:
    """A session on one picture; no effect where it is open on the same one, SessionConflict on another."""

    user: str
    session: str
    source_blob: str
    opened_at: float


@dataclass(frozen=True)
class AddTurn:
    """One more turn, which becomes the head; ``base`` is the turn that it edits, 0 the source picture.

    Raises UnknownSession, or UnknownTurn for a base that is not there.
    """

    user: str
    session: str
    turn: int
    job: str
    base: int
    added_at: float


@dataclass(frozen=True)
class MoveHead:
    """Stand at an earlier turn (0 is the source picture); raises UnknownSession or UnknownTurn."""

    user: str
    session: str
    head: int
    moved_at: float


@dataclass(frozen=True)
class CloseSession:
    """Forget a session and its turns; its jobs stay."""

    user: str
    session: str


@dataclass(frozen=True, slots=True)
class OwnBlob:
    """The user uploaded or received this blob, and may name it; said again, it renews ``stored_at``."""

    user: str
    hash: str
    size: int
    stored_at: float


@dataclass(frozen=True)
class DisownBlob:
    """The user may no longer name this blob."""

    user: str
    hash: str


@dataclass(frozen=True)
class SetPaused:
    """Whether the owner has paused the queue, for the next start to know."""

    paused: bool


Change = (
    AcceptJob
    | CountDeath
    | MarkRunning
    | CountInterruption
    | ForgetRunning
    | StoreOutcome
    | StoreNote
    | MarkFetched
    | ReleaseJob
    | ForgetTombstone
    | OpenSession
    | AddTurn
    | MoveHead
    | CloseSession
    | OwnBlob
    | DisownBlob
    | SetPaused
)


@dataclass(frozen=True)
class ExpireBefore:
    """Limits of age: jobs by their end, tombstones by their release, sessions by their last use; ``now`` is now.

    A job whose result was fetched before ``fetched_before`` expires, however lately it ended.

    An expired job leaves a tombstone dated ``now``. Kept at any age: a job without an outcome, one that such a job
    depends on, and a session with such a job. At most ``most`` jobs and as many sessions go at once, the oldest first.
    """

    finished_before: float
    released_before: float
    sessions_idle_before: float
    now: float
    most: int = 1000
    fetched_before: float = 0.0


@dataclass(frozen=True)
class Expired:
    """Everything that was dropped."""

    jobs: tuple[Key, ...]
    tombstones: tuple[Key, ...]
    sessions: tuple[Key, ...]


@dataclass(frozen=True)
class StoredJob:
    """A job as accepted, with its later changes; ``outcome`` is None while it is promised.

    ``boot`` is None unless it ran when the daemon ended: ``kills`` and ``downs`` count the earlier times of that.
    """

    accepted: AcceptJob
    deaths: int
    requeues: int
    outcome: StoreOutcome | None
    boot: str | None = None
    kills: int = 0
    downs: int = 0
    fetched_at: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoredTurn:
    """One turn; ``result_blob`` outlives the job's release and is None until, and unless, the job succeeded."""

    turn: int
    job: str
    base: int
    result_blob: str | None


@dataclass(frozen=True)
class StoredSession:
    """An open session with its turns in order; ``head`` is where the next edit starts."""

    user: str
    session: str
    source_blob: str
    opened_at: float
    used_at: float
    head: int
    turns: tuple[StoredTurn, ...]


@dataclass(frozen=True)
class Tombstone:
    """A job id that was used and released, so that a late identical request is not run again."""

    user: str
    job: str
    payload_hash: str
    released_at: float


@dataclass(frozen=True)
class JournalState:
    """Everything stored, at one moment; ``jobs`` in the order of acceptance.

    ``known_time`` is when expiry was looked at last, else the newest time that is stored; None in a new journal.
    """

    jobs: Mapping[Key, StoredJob]
    sessions: Mapping[Key, StoredSession]
    owners: Mapping[Key, OwnBlob]
    tombstones: Mapping[Key, Tombstone]
    known_time: float | None = None
    paused: bool = False
