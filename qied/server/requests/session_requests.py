"""OPEN, UNDO, REDO, HISTORY and CLOSE: sessions as they are used."""

from __future__ import annotations

import time

from qied_client.errors import NothingToRedo, NothingToUndo
from qied_client.protocol import limits
from qied_client.protocol import messages as m

from qied.scheduling.model import JobKey
from qied.server.journal.changes import CloseSession, MoveHead, OpenSession
from qied.server.named_locks import NamedLocks
from qied.server.ports.account import over_limit
from qied.server.ports.peer import Peer
from qied.server.requests.front_services import FrontServices
from qied.server.requests.picture_sizes import PictureSizes
from qied.server.sessions import Session, Turn, unknown_turn

_ENDED = ("failed", "cancelled", "poisoned")


class SessionRequests:
    """Opens sessions, moves their heads, shows and closes them."""

    def __init__(self, desk: FrontServices, locks: NamedLocks, sizes: PictureSizes) -> None:
        self._desk = desk
        self._locks = locks
        self._sizes = sizes

    async def open(self, peer: Peer, message: m.Open) -> m.Message:
        """The session of that name on that picture; raises SessionConflict, QuotaExceeded, UnknownBlob."""
        async with self._locks.hold(("session", peer.user, message.session), ("sessions", peer.user)):
            return self._state(message.id, await self._opened(peer, message))

    async def _opened(self, peer: Peer, message: m.Open) -> Session:
        desk = self._desk
        session = desk.sessions.check_open(peer.user, message.session, message.image)
        if session is None:
            limit = desk.config.limits.sessions_per_user
            if len(desk.sessions.of_user(peer.user)) >= limit:
                raise over_limit("limits.sessions_per_user", limit, "open sessions", "Close one first.", passes=False)
            with desk.ownership.hold(peer.user, (message.image,)):
                desk.store.touch(message.image)
                await self._sizes.of(message.image)
                now = time.time()
                await desk.journal.apply(OpenSession(peer.user, message.session, message.image, now))
            session = Session(peer.user, message.session, message.image, now, now)
            desk.sessions.add(session)
        return session

    async def undo(self, peer: Peer, message: m.Undo) -> m.Message:
        """Move the head from a turn to its base; raises UnknownSession, UnknownTurn, NothingToUndo."""
        async with self._locks.hold(("session", peer.user, message.session)):
            session = self._desk.sessions.get(peer.user, message.session)
            if not session.turns:
                raise NothingToUndo("The session is at its first picture, so there is no turn to undo.", "Edit first.")
            turn = _turn(session, message.turn)
            if session.head == turn.number:
                await self._move_head(session, turn.base)
            return self._state(message.id, session)

    async def redo(self, peer: Peer, message: m.Redo) -> m.Message:
        """Move the head from a turn's base to the turn; raises UnknownSession, UnknownTurn, NothingToRedo."""
        async with self._locks.hold(("session", peer.user, message.session)):
            session = self._desk.sessions.get(peer.user, message.session)
            turn = _turn(session, message.turn)
            if session.head != turn.number:
                self._check_redo(session, turn)
                await self._move_head(session, turn.number)
            return self._state(message.id, session)

    def _check_redo(self, session: Session, turn: Turn) -> None:
        if turn.base != session.head:
            following = [str(other.number) for other in session.turns.values() if other.base == session.head]
            raise NothingToRedo(
                f"Turn {turn.number} edited turn {turn.base}, but the session is at turn {session.head}.",
                f"Redo turn {' or '.join(following)}." if following else "Edit, or undo first.",
            )
        job = self._desk.jobs.get(JobKey(session.user, turn.job))
        if job is not None and job.state in _ENDED:
            raise NothingToRedo(f"Turn {turn.number} ended as {job.state}, so it has no picture.", "Edit again.")

    async def _move_head(self, session: Session, head: int) -> None:
        now = time.time()
        await self._desk.journal.apply(MoveHead(session.user, session.name, head, now))
        session.head, session.used_at = head, now

    async def history(self, peer: Peer, message: m.History) -> m.Message:
        """The session with its newest turns; raises UnknownSession."""
        session = self._desk.sessions.get(peer.user, message.session)
        return self._state(message.id, session)

    async def close(self, peer: Peer, message: m.Close) -> m.Message:
        """Forget a session, if there is one."""
        session = self._desk.sessions.find(peer.user, message.session)
        if session is not None:
            await self._desk.journal.apply(CloseSession(peer.user, message.session))
            self._desk.sessions.drop([(peer.user, message.session)])
            self._desk.forget_scope(session.scope)
        return m.Closed(message.id, message.session)

    def _state(self, identifier: int, session: Session) -> m.SessionState:
        newest = sorted(session.turns.values(), key=lambda turn: turn.number)[-limits.HISTORY_TURNS :]
        rows = []
        for turn in newest:
            job = self._desk.jobs.get(JobKey(session.user, turn.job))
            rows.append(m.Turn(turn.number, turn.base, turn.job, job.state if job is not None else "released"))
        return m.SessionState(identifier, session.name, session.source, session.head, tuple(rows))


def _turn(session: Session, number: int) -> Turn:
    if number not in session.turns:
        raise unknown_turn(session.name, number)
    return session.turns[number]
