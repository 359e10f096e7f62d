"""Jobs in memory: their state, their numbered events, and their followers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import msgpack
from qied_client.protocol import messages as m
from qied_client.protocol.fields import read
from qied_client.protocol.request import EditRequest

from qied.edit import EditSpec
from qied.scheduling.model import JobKey
from qied.server.journal.changes import StoredJob, StoreOutcome
from qied.server.ports.peer import Peer

State = Literal["waiting", "running", "succeeded", "failed", "cancelled", "poisoned"]


@dataclass
class Job:
    """One accepted job. ``news`` keeps the last event of each kind, which is all that a latecomer needs."""

    key: JobKey
    order: int
    payload_hash: str
    request: EditRequest
    spec: EditSpec
    session: str | None = None
    turn: int | None = None
    depends_on: str | None = None
    state: State = "waiting"
    deaths: int = 0
    requeues: int = 0
    outcome: StoreOutcome | None = None
    worker: str | None = None
    place: int | None = None
    starts_in_ms: int | None = None
    step: int = 0
    numbers: int = 0
    news: dict[str, m.Event] = field(default_factory=dict)
    followers: set[int] = field(default_factory=set)

    @property
    def finished(self) -> bool:
        """Whether the one outcome is stored."""
        return self.outcome is not None

    @classmethod
    def restored(cls, stored: StoredJob) -> Job:
        """Take a job back from the journal."""
        accepted = stored.accepted
        job = cls(
            key=JobKey(accepted.user, accepted.job),
            order=accepted.order,
            payload_hash=accepted.payload_hash,
            request=read(EditRequest, msgpack.unpackb(accepted.request)),
            spec=read(EditSpec, msgpack.unpackb(accepted.spec)),
            session=accepted.session,
            turn=accepted.turn,
            depends_on=accepted.depends_on,
            deaths=stored.deaths,
            requeues=stored.requeues,
            outcome=stored.outcome,
        )
        if stored.outcome is not None:
            job.state = stored.outcome.state
        return job

    def result_message(self, base_number: int) -> m.Result:
        """The RESULT of a finished job."""
        outcome = self.outcome
        assert outcome is not None, "only a finished job has a result"
        return m.Result(
            job=self.key.job,
            number=base_number + self.numbers + 1,
            state=outcome.state,
            blob=outcome.result_blob,
            size=outcome.result_bytes,
            media_type=outcome.media_type or "",
            width=self.spec.width,
            height=self.spec.height,
            seed=outcome.seed,
            timings=msgpack.unpackb(outcome.timings) if outcome.timings else {},
            code=outcome.error_code or "",
            message=outcome.error_message or "",
            remedy=outcome.error_remedy or "",
        )


class JobBook:
    """All jobs that are not released, by user and id.

    Event numbers begin at ``incarnation`` times 2**32, so that they only grow across restarts of the daemon.
    """

    def __init__(self, incarnation: int) -> None:
        self._base_number = incarnation << 32
        self._jobs: dict[JobKey, Job] = {}
        self._peers: dict[int, Peer] = {}
        self._stopped_running = asyncio.Event()

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def add(self, job: Job) -> None:
        """Enter a job that is in the journal."""
        self._jobs[job.key] = job

    def get(self, key: JobKey) -> Job | None:
        """The job, or None."""
        return self._jobs.get(key)

    def drop(self, keys: Iterable[JobKey]) -> None:
        """Forget released or expired jobs."""
        for key in keys:
            self._jobs.pop(key, None)

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
        while any(job.state == "running" for job in self._jobs.values()):
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
            for job in self._jobs.values():
                job.followers.discard(id(peer))

    def _send(self, job: Job, message: m.Message) -> None:
        for identity in list(job.followers):
            peer = self._peers.get(identity)
            if peer is None or not peer.send(message):
                job.followers.discard(identity)
