"""Multi-turn sessions in memory: which picture each turn edits, and where the next one starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from qied_client.errors import SessionConflict, UnknownSession, UnknownTurn

from qied.scheduling.model import JobKey
from qied.server.journal.changes import StoredSession


@dataclass
class Turn:
    """Turn ``number`` edits the result of turn ``base``; 0 is the session's first picture."""

    number: int
    base: int
    job: str
    result_blob: str | None = None


@dataclass
class Session:
    """``head`` is the turn whose result is the latest picture. Times are seconds since the epoch."""

    user: str
    name: str
    source: str
    opened_at: float
    used_at: float
    head: int = 0
    turns: dict[int, Turn] = field(default_factory=dict)

    @property
    def next_turn(self) -> int:
        """Number of the next turn; a number is never used twice."""
        return max(self.turns, default=0) + 1

    @property
    def scope(self) -> str:
        """Name of the session's cache in a worker."""
        return f"{self.user}/{self.name}"

    @property
    def blobs(self) -> Iterator[str]:
        """Its first picture, and the results of its turns."""
        yield self.source
        yield from (turn.result_blob for turn in self.turns.values() if turn.result_blob is not None)

    def base(self, turn: int | None) -> Turn | None:
        """The turn to edit (None: the latest), or None for the first picture. Raises UnknownTurn."""
        number = self.head if turn is None else turn
        if number == 0:
            return None
        if number not in self.turns:
            raise unknown_turn(self.name, number)
        return self.turns[number]


def unknown_turn(session: str, number: int) -> UnknownTurn:
    """The error for a turn that the session does not have."""
    return UnknownTurn(f"Session {session!r} has no turn {number}.", "Its history shows those that it has.")


class SessionBook:
    """All open sessions, by user and id."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[str, str], Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def restore(self, stored: StoredSession) -> None:
        """Take a session back from the journal."""
        turns = {turn.turn: Turn(turn.turn, turn.base, turn.job, turn.result_blob) for turn in stored.turns}
        session = Session(
            stored.user, stored.session, stored.source_blob, stored.opened_at, stored.used_at, stored.head, turns
        )
        self._sessions[stored.user, stored.session] = session

    def find(self, user: str, name: str) -> Session | None:
        """The session, or None."""
        return self._sessions.get((user, name))

    def get(self, user: str, name: str) -> Session:
        """The session; raises UnknownSession."""
        session = self._sessions.get((user, name))
        if session is None:
            raise UnknownSession(
                f"You have no session {name!r}.",
                "Open it on a picture first, or take one of those that 'qied session list' shows.",
            )
        return session

    def check_open(self, user: str, name: str, source: str) -> Session | None:
        """The session if it is open on this picture, None if the name is free; raises SessionConflict."""
        session = self._sessions.get((user, name))
        if session is not None and session.source != source:
            raise SessionConflict(f"Session {name!r} is open on another picture.", "Use another name.")
        return session

    def add(self, session: Session) -> None:
        """Enter a session that is in the journal."""
        self._sessions[session.user, session.name] = session

    def of_user(self, user: str) -> list[Session]:
        """The sessions that a user has open."""
        return [session for session in self._sessions.values() if session.user == user]

    def drop(self, keys: Iterable[tuple[str, str]]) -> list[Session]:
        """Forget closed or expired sessions and return them."""
        dropped = [self._sessions.pop(key, None) for key in keys]
        return [session for session in dropped if session is not None]

    def job_succeeded(self, key: JobKey, session: str, blob: str, finished_at: float) -> None:
        """Enter a turn's result, which counts as a use of its session."""
        found = self._sessions.get((key.user, session))
        if found is None:
            return
        found.used_at = max(found.used_at, finished_at)
        for turn in found.turns.values():
            if turn.job == key.job:
                turn.result_blob = blob
