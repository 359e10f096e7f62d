"""Jobs in memory: their state, their numbered events, and their followers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.message import cut_text
from qied_client.protocol.request import EditRequest

from qied.edit import EditSpec
from qied.scheduling.model import JobKey
from qied.server.journal.changes import AcceptJob, JobNote, StoredJob, StoreOutcome
from qied.server.journal.stored_edit import UnreadableRow, drift_in, size_in, timings_in, unpack
from qied.server.ports.peer import Peer

_BESIDES_PIXELS: Final = 64 * 1024
"""Bytes of marks, and of metadata without the prompts."""
_TIMES_A_PROMPT: Final = 13
State = Literal["waiting", "running", "succeeded", "failed", "cancelled", "poisoned"]


@dataclass(slots=True)
class Job:
    """One accepted job. ``news`` keeps the last event of each kind, which is all that a latecomer needs.

    ``number`` is its place in the order of acceptance; ``order`` is the scheduler's, which may differ after a restart.
    ``accepted_at`` and ``fetched_at``, when the client said that it has the result, are seconds since the epoch.
    ``warnings`` came up while it ran, in addition to those of its spec.
    ``unreadable`` says why request and spec could not be read from the journal; both are stand-ins then.
    ``kills`` and ``downs`` count how often it ran when the daemon was killed or the machine went down.
    ``queued_ms`` and ``started_ms`` are this front's clock when it began to wait, and to run the last time.
    """

    key: JobKey
    order: int
    payload_hash: str
    request: EditRequest
    spec: EditSpec
    session: str | None = None
    turn: int | None = None
    depends_on: str | None = None
    accepted_at: float = 0.0
    fetched_at: float | None = None
    warnings: tuple[str, ...] = ()
    state: State = "waiting"
    deaths: int = 0
    requeues: int = 0
    kills: int = 0
    downs: int = 0
    outcome: StoreOutcome | None = None
    worker: str | None = None
    place: int | None = None
    starts_in_ms: int | None = None
    step: int = 0
    queued_ms: int = 0
    started_ms: int | None = None
    numbers: int = 0
    news: dict[str, m.Event] = field(default_factory=dict)
    followers: set[int] = field(default_factory=set)
    unreadable: str | None = None
    number: int = field(init=False)

    def __post_init__(self) -> None:
        self.number = self.order

    @property
    def finished(self) -> bool:
        """Whether the one outcome is stored."""
        return self.outcome is not None

    @classmethod
    def restored(cls, stored: StoredJob) -> Job:
        """Take a job back from the journal; one that cannot be read is ``unreadable``, and keeps its result."""
        accepted = stored.accepted
        request, spec, unreadable = _edit_of(accepted)
        job = cls(
            key=JobKey(accepted.user, accepted.job),
            order=accepted.order,
            payload_hash=accepted.payload_hash,
            request=request,
            spec=spec,
            session=accepted.session,
            turn=accepted.turn,
            depends_on=accepted.depends_on,
            accepted_at=accepted.accepted_at,
            fetched_at=stored.fetched_at,
            warnings=stored.warnings,
            deaths=stored.deaths,
            requeues=stored.requeues,
            kills=stored.kills,
            downs=stored.downs,
            outcome=stored.outcome,
            unreadable=unreadable,
        )
        if stored.outcome is not None:
            job.state = stored.outcome.state
        return job

    def result_message(self, base_number: int) -> m.Result:
        """The RESULT of a finished job."""
        outcome = self.outcome
        assert outcome is not None, "only a finished job has a result"
        known = self.unreadable is None
        return m.Result(
            job=self.key.job,
            number=base_number + self.numbers + 1,
            state=outcome.state,
            blob=outcome.result_blob,
            size=outcome.result_bytes,
            media_type=outcome.media_type or "",
            width=self.spec.size[0],
            height=self.spec.size[1],
            seed=outcome.seed,
            timings=timings_in(outcome.timings),
            code=outcome.error_code or "",
            message=outcome.error_message or "",
            remedy=outcome.error_remedy or "",
            steps=self.spec.steps if known else 0,
            true_cfg_scale=self.spec.true_cfg_scale if known else 0.0,
            precision=self.spec.precision,
            preset=self.spec.preset,
            schedule=self.spec.schedule if known else "",
            warnings=self.all_warnings,
            drift=drift_in(outcome.timings),
        )

    @property
    def all_warnings(self) -> tuple[str, ...]:
        """What the user probably did not intend, each once: known at acceptance, then what came up while it ran."""
        return _each_once(*self.spec.warnings, *self.warnings)

    def note(self, outcome: StoreOutcome, warnings: Sequence[str] = ()) -> JobNote:
        """What is remembered of a job that ends like this, with these ``warnings`` more."""
        return JobNote(
            user=self.key.user,
            job=self.key.job,
            number=self.number,
            state=outcome.state,
            prompt=cut_text(self.spec.prompt, limits.SHORT_PROMPT_BYTES),
            seed=outcome.seed,
            accepted_at=self.accepted_at,
            finished_at=outcome.finished_at,
            warnings=_each_once(*self.spec.warnings, *warnings),
        )


def _each_once(*warnings: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(warnings))[: limits.WARNINGS]


def _edit_of(accepted: AcceptJob) -> tuple[EditRequest, EditSpec, str | None]:
    """Request and spec as stored, or stand-ins that hold on to the job's pictures, and why they are that."""
    try:
        return unpack(EditRequest, accepted.request), unpack(EditSpec, accepted.spec), None
    except UnreadableRow as problem:
        width, height = size_in(accepted.spec)
        spec = EditSpec(accepted.blobs, "", None, seed=0, steps=1, true_cfg_scale=1.0, width=width, height=height)
        return EditRequest(accepted.blobs, "", seed=0), spec, str(problem)


def result_bytes(spec: EditSpec) -> int:
    """The most that a result can take: its pixels as they are (PNG and WebP are lossless), and what else its file has.

    That is its prompts in three dialects, two of which may escape each byte, and marks.
    """
    channels = 4 if spec.keeps_opacity else 3
    width, height = spec.size if spec.upscale else (spec.width, spec.height)
    texts = _TIMES_A_PROMPT * len(f"{spec.prompt}{spec.negative_prompt or ''}".encode())
    return min(width * height * channels * 101 // 100 + texts + _BESIDES_PIXELS, limits.RESULT_BYTES)


class JobBook:
    """All jobs that are not released, by user and id.

    Event numbers begin at ``incarnation`` times 2**32, so that they only grow across restarts of the daemon.
    """

    def __init__(self, incarnation: int) -> None:
        self._base_number = incarnation << 32
        self._jobs: dict[JobKey, Job] = {}
        self._users: dict[str, dict[JobKey, Job]] = {}
        self._live: dict[JobKey, Job] = {}
        self._kept: dict[str, dict[JobKey, Job]] = {}
        self._promised: Counter[str] = Counter()
        self.promised_bytes = 0
        """Bytes that the results of all accepted jobs may take."""
        self._peers: dict[int, Peer] = {}
        self._stopped_running = asyncio.Event()

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    @property
    def live(self) -> Collection[Job]:
        """Jobs without an outcome."""
        return self._live.values()

    @property
    def results(self) -> int:
        """How many jobs have a picture that is kept."""
        return sum(job.state == "succeeded" for job in self._jobs.values())

    def of_user(self, user: str) -> Collection[Job]:
        """All jobs of a user."""
        return self._users.get(user, {}).values()

    def add(self, job: Job) -> None:
        """Enter a job that is in the journal."""
        self._jobs[job.key] = job
        self._users.setdefault(job.key.user, {})[job.key] = job
        if job.finished:
            self._kept.setdefault(job.key.user, {})[job.key] = job
        else:
            self._live[job.key] = job
            self.promise(job.key.user, result_bytes(job.spec))

    def get(self, key: JobKey) -> Job | None:
        """The job, or None."""
        return self._jobs.get(key)

    def drop(self, keys: Iterable[JobKey]) -> None:
        """Forget released or expired jobs."""
        for key in keys:
            job = self._jobs.pop(key, None)
            self._users.get(key.user, {}).pop(key, None)
            if job is not None and self._live.pop(key, None) is not None:
                self.promise(key.user, -result_bytes(job.spec))
            self._kept.get(key.user, {}).pop(key, None)

    def kept(self, user: str) -> int:
        """How many finished jobs of a user are not released."""
        return len(self._kept.get(user, ()))

    def oldest_without_result(self, user: str) -> JobKey | None:
        """The finished job of a user that can be forgotten with the least loss: it ended first, and has no picture."""
        theirs = self._kept.get(user, {}).values()
        return next((job.key for job in theirs if job.state != "succeeded"), None)

    def oldest_fetched(self, user: str) -> JobKey | None:
        """The job of a user whose result its client has had for the longest time; see ``fetched``."""
        return next((job.key for job in self.fetched(user)), None)

    def fetched(self, user: str) -> list[Job]:
        """Finished jobs of a user whose result the client has, the first fetched first.

        Without those on which a turn waits: it may need their picture.
        """
        bases = {job.depends_on for job in self._live.values() if job.key.user == user}
        theirs = self._kept.get(user, {}).values()
        found = [(job.fetched_at, job) for job in theirs if job.fetched_at is not None and job.key.job not in bases]
        return [job for _, job in sorted(found, key=lambda pair: pair[0])]

    def promise(self, user: str, size: int) -> None:
        """Count bytes that a result of this user may take; negative where it is there, or will never be."""
        self._promised[user] += size
        self.promised_bytes += size

    def promised_to(self, user: str) -> int:
        """Bytes that the results of a user's accepted jobs may take."""
        return self._promised[user]

    def publish(self, job: Job, kind: str, **fields: Any) -> None:
        """Number an event, keep it for late followers and send it to the job's followers."""
        job.numbers += 1
        event = m.Event(job.key.job, self._base_number + job.numbers, kind, **fields)
        job.news[kind] = event
        self._send(job, event)

    def conclude(self, job: Job, outcome: StoreOutcome) -> None:
        """Enter the outcome that is now in the journal, and send it to the job's followers."""
        job.outcome = outcome
        job.state = outcome.state
        if self._live.pop(job.key, None) is not None:
            self.promise(job.key.user, -result_bytes(job.spec))
            self._kept.setdefault(job.key.user, {})[job.key] = job
        job.worker = job.place = job.starts_in_ms = None
        self._send(job, job.result_message(self._base_number))
        job.news.clear()
        job.followers.clear()
        self._stopped_running.set()

    def requeued(self, job: Job, reason: str) -> None:
        """Publish that a job waits again."""
        self.publish(job, "requeued", note=reason)
        self._stopped_running.set()

    async def none_running(self) -> None:
        """Wait until no job is running."""
        while any(job.state == "running" for job in self._live.values()):
            self._stopped_running.clear()
            await self._stopped_running.wait()

    async def none_left(self) -> None:
        """Wait until every job has its outcome."""
        while any(not job.finished for job in self._jobs.values()):
            self._stopped_running.clear()
            await self._stopped_running.wait()

    def follow(self, job: Job, peer: Peer, after: int) -> None:
        """Send a peer the events it has not seen, and those to come."""
        for event in sorted(job.news.values(), key=lambda event: event.number):
            if event.number > after:
                peer.send(event)
        if job.finished:
            peer.send(job.result_message(self._base_number))
        elif peer.ready:
            self._peers[id(peer)] = peer
            job.followers.add(id(peer))

    def unfollow(self, peer: Peer) -> None:
        """Forget a peer whose connection is gone."""
        if self._peers.pop(id(peer), None) is not None:
            for job in self._live.values():
                job.followers.discard(id(peer))

    def _send(self, job: Job, message: m.Message) -> None:
        for identity in list(job.followers):
            peer = self._peers.get(identity)
            if peer is None or not peer.send(message):
                job.followers.discard(identity)
