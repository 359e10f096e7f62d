"""Sessions of several turns on one picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from qied_client.protocol import limits
from qied_client.protocol.fields import Hash, Int, ListOf, Nested, OneOf
from qied_client.protocol.message import Message
from qied_client.protocol.messages.checks import COUNT, ID, STATES


@dataclass(frozen=True)
class Open(Message):
    """Open a multi-turn session on an uploaded picture, under a name that the client chooses; idempotent."""

    TYPE = b"OPEN"
    id: Annotated[int, COUNT]
    session: Annotated[str, ID]
    image: Annotated[str, Hash()]


@dataclass(frozen=True)
class Undo(Message):
    """Go back to the picture that turn ``turn`` edited; named, so that asking twice undoes once."""

    TYPE = b"UNDO"
    id: Annotated[int, COUNT]
    session: Annotated[str, ID]
    turn: Annotated[int, Int(1, 2**31)]


@dataclass(frozen=True)
class Redo(Message):
    """Go forward again to turn ``turn``, which edited the latest picture; named, so that asking twice redoes once."""

    TYPE = b"REDO"
    id: Annotated[int, COUNT]
    session: Annotated[str, ID]
    turn: Annotated[int, Int(1, 2**31)]


@dataclass(frozen=True)
class History(Message):
    """Ask for a session's state and its newest ``HISTORY_TURNS`` turns."""

    TYPE = b"HISTORY"
    id: Annotated[int, COUNT]
    session: Annotated[str, ID]


@dataclass(frozen=True)
class Turn:
    """One turn: it edited the result of turn ``base`` (0 is the first picture)."""

    turn: Annotated[int, Int(1, 2**31)]
    base: Annotated[int, Int(0, 2**31)]
    job: Annotated[str, ID]
    state: Annotated[str, OneOf((*STATES, "released"))]


@dataclass(frozen=True)
class SessionState(Message):
    """A session as it stands: ``head`` is the turn whose result is the latest picture."""

    TYPE = b"SESSION"
    re: Annotated[int, COUNT]
    session: Annotated[str, ID]
    source: Annotated[str, Hash()]
    head: Annotated[int, Int(0, 2**31)]
    turns: Annotated[tuple[Turn, ...], ListOf(Nested(Turn), limits.HISTORY_TURNS)]


@dataclass(frozen=True)
class Close(Message):
    """End a session: its pictures and caches may be deleted. Idempotent."""

    TYPE = b"CLOSE"
    id: Annotated[int, COUNT]
    session: Annotated[str, ID]


@dataclass(frozen=True)
class Closed(Message):
    """Answer to CLOSE."""

    TYPE = b"CLOSED"
    re: Annotated[int, COUNT]
    session: Annotated[str, ID]
