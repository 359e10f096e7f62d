"""SUBMIT: from a request to a job that is promised."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog
from qied_client.errors import (
    DependencyFailed,
    DiskFull,
    InvalidRequest,
    JobConflict,
    QuotaExceeded,
    ShuttingDown,
    UnknownTurn,
)
from qied_client.protocol import messages as m

from qied.edit import EditSpec
from qied.planning.requests.request_defaults import Size, admitted, resolve
from qied.scheduling.model import JobKey
from qied.server.clock import now_ms
from qied.server.jobs import Job, result_bytes
from qied.server.journal.changes import AcceptJob, AddTurn, Change
from qied.server.journal.stored_edit import pack
from qied.server.named_locks import NamedLocks
from qied.server.ports.account import over_limit
from qied.server.ports.peer import Peer
from qied.server.requests.front_services import FrontServices
from qied.server.requests.picture_sizes import PictureSizes
from qied.server.sessions import Session, Turn


@dataclass(frozen=True)
class _Base:
    """The picture that a turn edits: known by its hash, or the result of a job that is still to come."""

    session: Session
    turn: int
    base: int
    size: Size
    blob: str | None
    waits_for: str | None


class Submissions:
    """Takes jobs in; the same SUBMIT again is the same job."""

    def __init__(self, desk: FrontServices, locks: NamedLocks, sizes: PictureSizes, first_order: int) -> None:
        self._log = structlog.get_logger(part="requests")
        self._desk = desk
        self._locks = locks
        self._sizes = sizes
        self._next_order = first_order
        self._accepting: Counter[str] = Counter()
        self.draining = False

    async def submit(self, peer: Peer, message: m.Submit) -> m.Message | None:
        """Accept a job, or find it; raises InvalidRequest, CapacityError, JobError, SessionError and their kinds."""
        key = JobKey(peer.user, message.job)
        if message.payload_hash != message.request.payload_hash():
            raise InvalidRequest(
                "payload_hash: this is not the hash of the request that came with it.",
                "Hash the canonical form, see docs/protocol.md.",
                field="payload_hash",
            )
        async with self._locks.hold(("job", key.user, key.job), ("session", key.user, message.session or "")):
            job = self._known(key, message)
            if job is not None:
                self._check_same_turn(job, message)
                return _accepted(message.id, job, known=True)
            job = await self._accept(key, message)
            peer.send(_accepted(message.id, job, known=False))
            self._desk.dispatcher.submit(job)
            return None

    def _known(self, key: JobKey, message: m.Submit) -> Job | None:
        job = self._desk.jobs.get(key)
        earlier = job.payload_hash if job is not None else self._desk.releases.tombstones.get(key)
        if earlier is None:
            return None
        if earlier != message.payload_hash:
            raise JobConflict(f"Job {key.job!r} was submitted with another request.", "Use a new job id.")
        if job is None:
            raise self._desk.releases.unknown(key, seed=message.request.seed)
        return job

    def _check_same_turn(self, job: Job, message: m.Submit) -> None:
        """The same request as another turn is another job; a base that is left open is the one that was taken."""
        session = self._desk.sessions.find(job.key.user, job.session or "")
        turn = None if session is None or job.turn is None else session.turns.get(job.turn)
        other_base = message.base is not None and turn is not None and turn.base != message.base
        if message.session != job.session or other_base:
            raise JobConflict(f"Job {job.key.job!r} was submitted as another turn.", "Use a new job id.")

    async def _accept(self, key: JobKey, message: m.Submit) -> Job:
        self._refuse_if_stopping()
        request = message.request.validated()
        base = await self._base(key.user, message)
        blobs = request.pictures
        with self._desk.ownership.hold(key.user, blobs):
            self._desk.store.touch(*blobs)
            sizes = [await self._sizes.of(blob) for blob in request.images]
            for blob in blobs:
                await self._sizes.of(blob)  # of masks too, so that one that cannot be read is refused now
            if base is not None:
                sizes.insert(0, base.size)
            canvas = None if request.canvas is None else await self._sizes.of(request.canvas)
            resolved = resolve(request, sizes, self._desk.serving, canvas=canvas)
            spec = admitted(resolved, request, self._desk.serving)
            if base is not None and base.blob is not None:
                spec = replace(spec, images=(base.blob, *spec.images))
            waits = spec.canvas is None and base is not None and base.blob is None
            if spec.inputs and not waits and not await self._sizes.may_be_transparent(spec.inputs[0]):
                spec = replace(spec, background="none")
            await self._find_room(key.user, spec)
            refusal = self._desk.dispatcher.refusal(key.user, spec, self._accepting)
            if refusal is not None:
                raise refusal
            gives_way = self._desk.admission.check(key.user, now_ms())
            job = Job(
                key=key,
                order=self._take_order(),
                payload_hash=message.payload_hash,
                request=request,
                spec=spec,
                session=message.session,
                turn=None if base is None else base.turn,
                depends_on=None if base is None else base.waits_for,
                accepted_at=time.time(),
            )
            self._refuse_if_stopping()
            with self._counted_as_accepting(key.user), self._desk.admission.promised(key.user, spec):
                if gives_way is not None and (old := self._desk.jobs.get(gives_way)) is not None:
                    await self._desk.releases.forget(old)
                await self._desk.journal.apply(*_changes(job, base))
        self._desk.jobs.add(job)
        for warning in resolved.warnings:
            self._log.warning(
                "an edit's settings are probably not what the user intended", user=key.user, job=key.job, why=warning
            )
        if base is not None:
            base.session.turns[base.turn] = Turn(base.turn, base.base, key.job)
            base.session.head = base.turn
            base.session.used_at = time.time()
        return job

    async def _find_room(self, user: str, spec: EditSpec) -> None:
        """See that the result will find room, if need be in place of what the user does not use or has fetched."""
        try:
            self._desk.admission.check_room(user, spec)
            return
        except (QuotaExceeded, DiskFull):
            await self._desk.make_room(user, result_bytes(spec))
        while True:
            try:
                self._desk.admission.check_room(user, spec)
                return
            except (QuotaExceeded, DiskFull):
                if not await self._desk.forget_fetched(user, result_bytes(spec)):
                    raise

    def _refuse_if_stopping(self) -> None:
        if self.draining:
            raise ShuttingDown("The daemon is stopping.", "Submit again once it is back; nothing was accepted.")
        if self._desk.finishing():
            raise ShuttingDown(
                "The daemon finishes the jobs that it has, then stops, and accepts no more.",
                "Submit again once it is back; nothing was accepted.",
            )

    @property
    def accepts_now(self) -> bool:
        """Whether a job is on its way into the journal."""
        return bool(self._accepting)

    @contextmanager
    def _counted_as_accepting(self, user: str) -> Iterator[None]:
        """Count a job that is on its way into the journal, so that many at once also keep to the quotas."""
        self._accepting[user] += 1
        try:
            yield
        finally:
            self._accepting[user] -= 1
            self._accepting += Counter()

    async def _base(self, user: str, message: m.Submit) -> _Base | None:
        if message.session is None:
            if message.base is not None:
                raise InvalidRequest(
                    "base: this needs a session.", "Name the session, or leave base out.", field="base"
                )
            return None
        session = self._desk.sessions.get(user, message.session)
        turn = session.base(message.base)
        if len(session.turns) >= self._desk.config.limits.turns_per_session:
            limit, remedy = len(session.turns), "Open a new session on the picture that you want to edit."
            raise over_limit("limits.turns_per_session", limit, "turns in this session", remedy, passes=False)
        if turn is None:
            size = await self._sizes.of(session.source)
            return _Base(session, session.next_turn, 0, size, session.source, None)
        job = self._desk.jobs.get(JobKey(user, turn.job))
        if job is not None and job.finished and job.state != "succeeded":
            raise DependencyFailed(
                f"Turn {turn.number} ended as {job.state}, so there is no picture to edit.",
                "Edit another turn (base), or undo.",
            )
        if job is not None and job.unreadable is None:
            size = job.spec.size
        elif turn.result_blob is not None:
            size = await self._sizes.of(turn.result_blob)
        else:
            raise UnknownTurn(f"The result of turn {turn.number} is gone.", "Edit another turn (base).")
        waits_for = None if turn.result_blob is not None else turn.job
        return _Base(session, session.next_turn, turn.number, size, turn.result_blob, waits_for)

    def _take_order(self) -> int:
        self._next_order += 1
        return self._next_order - 1


def _changes(job: Job, base: _Base | None) -> list[Change]:
    accept = AcceptJob(
        user=job.key.user,
        job=job.key.job,
        order=job.order,
        payload_hash=job.payload_hash,
        request=pack(job.request),
        spec=pack(job.spec),
        session=job.session,
        turn=job.turn,
        depends_on=job.depends_on,
        blobs=job.spec.pictures,
        accepted_at=job.accepted_at,
    )
    if base is None:
        return [accept]
    return [accept, AddTurn(job.key.user, base.session.name, base.turn, job.key.job, base.base, job.accepted_at)]


def _accepted(identifier: int, job: Job, *, known: bool) -> m.Accepted:
    return m.Accepted(
        re=identifier,
        job=job.key.job,
        known=known,
        width=job.spec.size[0],
        height=job.spec.size[1],
        steps=job.spec.steps,
        place=job.place,
        starts_in_ms=job.starts_in_ms,
        turn=job.turn,
        warnings=job.spec.warnings,
    )
