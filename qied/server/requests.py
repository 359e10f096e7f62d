"""The requests of clients, one method each; answers are messages, refusals are typed errors."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog
from qied_client.errors import (
    DependencyFailed,
    DiskFull,
    InvalidRequest,
    JobConflict,
    NothingToUndo,
    QuotaExceeded,
    ShuttingDown,
    UnknownJob,
    UnknownTurn,
)
from qied_client.picture_header import PictureLimits, read_header
from qied_client.protocol import limits
from qied_client.protocol import messages as m

from qied.config import LimitsConfig
from qied.edit import EditSpec
from qied.planning.request_defaults import Resolved, Size, admitted, resolve
from qied.planning.serving import Serving
from qied.scheduling.model import JobKey
from qied.server.access.owner import require_owner
from qied.server.admission import Admission, ReleasedJobs
from qied.server.blobs.ownership import Ownership
from qied.server.blobs.store import BlobStore
from qied.server.clock import now_ms
from qied.server.dispatcher import Dispatcher
from qied.server.jobs import Job, JobBook, result_bytes
from qied.server.journal.changes import (
    AcceptJob,
    AddTurn,
    Change,
    CloseSession,
    ForgetTombstone,
    MoveHead,
    OpenSession,
    ReleaseJob,
)
from qied.server.journal.journal import Journal
from qied.server.journal.stored_edit import pack
from qied.server.named_locks import NamedLocks
from qied.server.off_loop import off_loop
from qied.server.ports.account import over_limit
from qied.server.ports.peer import Peer
from qied.server.sessions import Session, SessionBook, Turn


@dataclass(frozen=True)
class _Base:
    """The picture that a turn edits: known by its hash, or the result of a job that is still to come."""

    session: Session
    turn: int
    base: int
    size: Size
    blob: str | None
    waits_for: str | None


@dataclass(frozen=True)
class FrontServices:
    """The services that requests need."""

    serving: Serving
    quotas: LimitsConfig
    admission: Admission
    journal: Journal
    store: BlobStore
    executor: Executor
    jobs: JobBook
    sessions: SessionBook
    ownership: Ownership
    dispatcher: Dispatcher
    report: Callable[[int, str, bool], m.StatusReport]
    control: Callable[[Peer, m.Control], Awaitable[m.Message]]
    finishing: Callable[[], bool]
    forget_scope: Callable[[str], None]
    make_room: Callable[[str, int], Awaitable[bool]]


class Requests:
    """Handlers of all requests but transfers."""

    def __init__(self, desk: FrontServices, first_order: int, released: Iterable[tuple[JobKey, str]]) -> None:
        self._log = structlog.get_logger(part="requests")
        self._desk = desk
        self._next_order = first_order
        self._released = ReleasedJobs(released)
        self._locks = NamedLocks()
        self._accepting: Counter[str] = Counter()
        self._sizes: dict[str, Size] = {}
        self.draining = False

    def forget_released(self, keys: Iterable[JobKey]) -> None:
        """The tombstones of these jobs have expired."""
        self._released.forget(keys)

    def bury(self, job: Job) -> None:
        """Remember that this job existed, so that a late SUBMIT does not run it again."""
        self._released.add(job.key, job.payload_hash)

    def handle(self, peer: Peer, message: m.Message) -> None:
        """Answer one request, in the background where it takes time."""
        match message:
            case m.Quote():
                peer.spawn(message.id, self._quote(message))
            case m.Submit():
                peer.spawn(message.id, self._submit(peer, message))
            case m.Resume():
                peer.spawn(message.id, self._resume(peer, message))
            case m.Cancel():
                peer.spawn(message.id, self._cancel(peer, message))
            case m.Release():
                peer.spawn(message.id, self._release(peer, message))
            case m.Open():
                peer.spawn(message.id, self._open(peer, message))
            case m.Undo():
                peer.spawn(message.id, self._undo(peer, message))
            case m.History():
                peer.spawn(message.id, self._history(peer, message))
            case m.Close():
                peer.spawn(message.id, self._close(peer, message))
            case m.Status(everyone=True):
                peer.spawn(message.id, self._report_all(peer, message))
            case m.Status():
                peer.send(self._desk.report(message.id, peer.user, False))
            case m.Control():
                peer.spawn(message.id, self._control(peer, message))

    # The owner

    async def _report_all(self, peer: Peer, message: m.Status) -> m.Message:
        require_owner(peer.user, "see the jobs of everyone")
        self._log.info("showed everyone's jobs", user=peer.user)
        return self._desk.report(message.id, peer.user, True)

    async def _control(self, peer: Peer, message: m.Control) -> m.Message:
        return await self._desk.control(peer, message)

    # Quoting

    async def _quote(self, message: m.Quote) -> m.Message:
        request = message.request.validated()
        sizes = [(size.width, size.height) for size in message.sizes]
        if len(sizes) != len(request.images):
            raise InvalidRequest("sizes: one for each picture.", "Give width and height of every image.", field="sizes")
        resolved = resolve(request, sizes, self._desk.serving)
        spec = admitted(resolved, request, self._desk.serving)
        return self._quoted(message.id, spec, resolved)

    def _quoted(self, identifier: int, spec: EditSpec, resolved: Resolved) -> m.Quoted:
        cost = self._desk.dispatcher.cost(spec)
        waiting = self._desk.dispatcher.view().waiting
        ends = [row.starts_in_ms for row in waiting if row.starts_in_ms is not None]
        return m.Quoted(
            re=identifier,
            fits=resolved.fits,
            width=spec.width,
            height=spec.height,
            steps=spec.steps,
            forwards=spec.forwards,
            precision=self._desk.serving.precision,
            bytes=cost.state_bytes + cost.arena_bytes,
            milliseconds=cost.milliseconds,
            starts_in_ms=max(ends, default=0),
            nearest_width=resolved.nearest[0],
            nearest_height=resolved.nearest[1],
        )

    # Jobs

    async def _submit(self, peer: Peer, message: m.Submit) -> m.Message | None:
        key = JobKey(peer.user, message.job)
        if message.payload_hash != message.request.payload_hash():
            raise InvalidRequest(
                "payload_hash: this is not the hash of the request that came with it.",
                "Hash the canonical form, see docs/protocol.md.",
                field="payload_hash",
            )
        async with self._locks.hold(("job", key.user, key.job), ("session", key.user, message.session or "")):
            job = self._known(key, message.payload_hash)
            if job is not None:
                self._check_same_turn(job, message)
                return _accepted(message.id, job, known=True)
            job = await self._accept(key, message)
            peer.send(_accepted(message.id, job, known=False))
            self._desk.dispatcher.submit(job)
            return None

    def _known(self, key: JobKey, payload_hash: str) -> Job | None:
        job = self._desk.jobs.get(key)
        earlier = job.payload_hash if job is not None else self._released.get(key)
        if earlier is None:
            return None
        if earlier != payload_hash:
            raise JobConflict(f"Job {key.job!r} was submitted with another request.", "Use a new job id.")
        if job is None:
            raise UnknownJob(f"Job {key.job!r} has run and was released.", "Use a new job id to run it again.")
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
        blobs = (*request.images, *((request.mask,) if request.mask else ()))
        with self._desk.ownership.hold(key.user, blobs):
            self._desk.store.touch(*blobs)
            sizes = [await self._picture_size(blob) for blob in request.images]
            if request.mask:
                await self._picture_size(request.mask)
            if base is not None:
                sizes.insert(0, base.size)
            resolved = resolve(request, sizes, self._desk.serving)
            spec = admitted(resolved, request, self._desk.serving)
            if base is not None and base.blob is not None:
                spec = replace(spec, images=(base.blob, *spec.images))
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
            )
            self._refuse_if_stopping()
            with self._counted_as_accepting(key.user), self._desk.admission.promised(key.user, spec):
                if gives_way is not None and (old := self._desk.jobs.get(gives_way)) is not None:
                    await self._forget(old)
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
        """See that the result will find room, if need be in place of what the user does not use."""
        try:
            self._desk.admission.check_room(user, spec)
        except (QuotaExceeded, DiskFull):
            await self._desk.make_room(user, result_bytes(spec))
            self._desk.admission.check_room(user, spec)

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
        if len(session.turns) >= self._desk.quotas.turns_per_session:
            limit, remedy = len(session.turns), "Open a new session on the picture that you want to edit."
            raise over_limit("limits.turns_per_session", limit, "turns in this session", remedy, passes=False)
        if turn is None:
            size = await self._picture_size(session.source)
            return _Base(session, session.next_turn, 0, size, session.source, None)
        job = self._desk.jobs.get(JobKey(user, turn.job))
        if job is not None and job.finished and job.state != "succeeded":
            raise DependencyFailed(
                f"Turn {turn.number} ended as {job.state}, so there is no picture to edit.",
                "Edit another turn (base), or undo.",
            )
        if job is not None and job.unreadable is None:
            size = (job.spec.width, job.spec.height)
        elif turn.result_blob is not None:
            size = await self._picture_size(turn.result_blob)
        else:
            raise UnknownTurn(f"The result of turn {turn.number} is gone.", "Edit another turn (base).")
        waits_for = None if turn.result_blob is not None else turn.job
        return _Base(session, session.next_turn, turn.number, size, turn.result_blob, waits_for)

    async def _resume(self, peer: Peer, message: m.Resume) -> m.Message | None:
        job = self._job(peer, message.job)
        peer.send(m.Resumed(message.id, message.job, job.state))
        self._desk.jobs.follow(job, peer, message.after)
        return None

    async def _cancel(self, peer: Peer, message: m.Cancel) -> m.Message:
        others = message.user is not None and message.user != peer.user
        if others:
            require_owner(peer.user, "cancel the jobs of others")
        job = self._job(peer, message.job, message.user)
        if not job.finished:
            if others:
                self._log.info("the owner cancels a job", user=job.key.user, job=job.key.job)
            await self._desk.dispatcher.cancel(job, by=" by the owner of the machine" if others else "")
        answer = "cancelled" if job.state == "cancelled" else "finished"
        return m.Cancelling(message.id, message.job, answer, job.state)

    async def _release(self, peer: Peer, message: m.Release) -> m.Message:
        key = JobKey(peer.user, message.job)
        if self._desk.jobs.get(key) is None and key in self._released:
            return m.Released(message.id, message.job)
        job = self._job(peer, message.job)
        if not job.finished:
            raise InvalidRequest("job: it has not finished.", "Cancel it first, or wait.", field="job")
        await self._forget(job)
        return m.Released(message.id, message.job)

    async def _forget(self, job: Job) -> None:
        """Release a finished job."""
        oldest = self._released.gives_way(job.key.user)
        forgotten = () if oldest is None else (ForgetTombstone(oldest.user, oldest.job),)
        await self._desk.journal.apply(ReleaseJob(job.key.user, job.key.job, time.time()), *forgotten)
        self.bury(job)
        self._desk.jobs.drop([job.key])
        if job.outcome is not None and job.outcome.result_blob is not None:
            self._desk.ownership.give_up(job.key.user, job.outcome.result_blob)

    def _job(self, peer: Peer, name: str, user: str | None = None) -> Job:
        """A job of the peer's, or of another ``user``."""
        whose = peer.user if user is None else user
        job = self._desk.jobs.get(JobKey(whose, name))
        if job is None:
            who = "You have" if whose == peer.user else f"{whose} has"
            raise UnknownJob(f"{who} no job {name!r}.", "It was never submitted, or released, or expired.")
        return job

    # Sessions

    async def _open(self, peer: Peer, message: m.Open) -> m.Message:
        async with self._locks.hold(("session", peer.user, message.session), ("sessions", peer.user)):
            return self._session_state(message.id, await self._opened(peer, message))

    async def _opened(self, peer: Peer, message: m.Open) -> Session:
        desk = self._desk
        session = desk.sessions.check_open(peer.user, message.session, message.image)
        if session is None:
            if desk.sessions.of_user(peer.user) >= desk.quotas.sessions_per_user:
                limit = desk.quotas.sessions_per_user
                raise over_limit("limits.sessions_per_user", limit, "open sessions", "Close one first.", passes=False)
            with desk.ownership.hold(peer.user, (message.image,)):
                desk.store.touch(message.image)
                await self._picture_size(message.image)
                now = time.time()
                await desk.journal.apply(OpenSession(peer.user, message.session, message.image, now))
            session = Session(peer.user, message.session, message.image, now)
            desk.sessions.add(session)
        return session

    async def _undo(self, peer: Peer, message: m.Undo) -> m.Message:
        async with self._locks.hold(("session", peer.user, message.session)):
            return await self._undone(peer, message)

    async def _undone(self, peer: Peer, message: m.Undo) -> m.Message:
        session = self._desk.sessions.get(peer.user, message.session)
        if not session.turns:
            raise NothingToUndo("The session is at its first picture, so there is no turn to undo.", "Edit first.")
        if message.turn not in session.turns:
            raise UnknownTurn(f"Session {session.name} has no turn {message.turn}.", "See its history.")
        if session.head == message.turn:
            base = session.turns[message.turn].base
            await self._desk.journal.apply(MoveHead(peer.user, session.name, base, time.time()))
            session.head = base
        return self._session_state(message.id, session)

    async def _history(self, peer: Peer, message: m.History) -> m.Message:
        session = self._desk.sessions.get(peer.user, message.session)
        return self._session_state(message.id, session)

    async def _close(self, peer: Peer, message: m.Close) -> m.Message:
        session = self._desk.sessions.find(peer.user, message.session)
        if session is not None:
            await self._desk.journal.apply(CloseSession(peer.user, message.session))
            self._desk.sessions.drop([(peer.user, message.session)])
            self._desk.forget_scope(session.scope)
        return m.Closed(message.id, message.session)

    def _session_state(self, identifier: int, session: Session) -> m.SessionState:
        newest = sorted(session.turns.values(), key=lambda turn: turn.number)[-limits.HISTORY_TURNS :]
        rows = []
        for turn in newest:
            job = self._desk.jobs.get(JobKey(session.user, turn.job))
            rows.append(m.Turn(turn.number, turn.base, turn.job, job.state if job is not None else "released"))
        return m.SessionState(identifier, session.name, session.source, session.head, tuple(rows))

    # Pictures

    async def _picture_size(self, blob: str) -> Size:
        """Displayed size of a stored picture, from its header alone; raises PictureError and its kinds."""
        if blob not in self._sizes:
            limit = PictureLimits(max_pixels=self._desk.quotas.picture_pixels)

            def measure() -> Size:
                with self._desk.store.open_read(blob) as file:
                    return read_header(file, limit).displayed_size

            if len(self._sizes) > 4096:
                self._sizes.clear()
            self._sizes[blob] = await off_loop(self._desk.executor, measure)
        return self._sizes[blob]

    def _take_order(self) -> int:
        self._next_order += 1
        return self._next_order - 1


def _changes(job: Job, base: _Base | None) -> list[Change]:
    blobs = (*job.spec.images, *((job.spec.mask,) if job.spec.mask else ()))
    now = time.time()
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
        blobs=blobs,
        accepted_at=now,
    )
    if base is None:
        return [accept]
    return [accept, AddTurn(job.key.user, base.session.name, base.turn, job.key.job, base.base, now)]


def _accepted(identifier: int, job: Job, *, known: bool) -> m.Accepted:
    return m.Accepted(
        re=identifier,
        job=job.key.job,
        known=known,
        width=job.spec.width,
        height=job.spec.height,
        steps=job.spec.steps,
        place=job.place,
        starts_in_ms=job.starts_in_ms,
        turn=job.turn,
    )
