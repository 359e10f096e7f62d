"""What a session's history and the list of one's own sessions hold, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from qied_client.job_status import time_of
from qied_client.protocol import messages as m

UNFINISHED = ("waiting", "running")


@dataclass(frozen=True)
class Turn:
    """One turn of a session: it edited the picture of turn ``base``; 0 is the session's first picture.

    ``state`` is waiting, running, succeeded, failed, cancelled or poisoned, or ``released`` once the daemon has
    forgotten the job. ``prompt`` is its beginning, at most 160 bytes of UTF-8. ``blob`` is the hash of the picture.
    Times are aware, in UTC. What there is not yet is None. Prompt, seed and times are not known of turns whose jobs an
    older daemon has forgotten; one of protocol version 1 tells none of them, nor the blob.
    """

    turn: int
    base: int
    job: str
    state: str
    prompt: str = ""
    seed: int | None = None
    accepted_at: datetime | None = None
    finished_at: datetime | None = None
    blob: str | None = None

    @classmethod
    def of(cls, row: m.TurnInfo) -> Turn:
        """The turn that the daemon describes."""
        times = (time_of(row.accepted_ms), time_of(row.finished_ms))
        seed = row.seed if row.accepted_ms else None
        return cls(row.turn, row.base, row.job, row.state, row.prompt, seed, *times, row.blob)

    @property
    def has_picture(self) -> bool:
        """Whether the turn has a picture, or will have one unless it fails."""
        return self.blob is not None or self.state in UNFINISHED


@dataclass(frozen=True)
class SessionSummary:
    """One of the user's open sessions.

    ``head`` is the turn whose result is the latest picture, ``turns`` how many there are, ``prompt`` the beginning of
    the latest turn's. ``source`` is the hash of the first picture. Times are aware, in UTC.
    """

    name: str
    head: int
    turns: int
    opened_at: datetime | None
    used_at: datetime | None
    prompt: str
    source: str

    @classmethod
    def of(cls, row: m.SessionInfo) -> SessionSummary:
        """The session that the daemon describes."""
        times = (time_of(row.opened_ms), time_of(row.used_ms))
        return cls(row.session, row.head, row.turns, *times, row.prompt, row.source)
