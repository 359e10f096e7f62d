"""Every message of protocol 1 as a frozen dataclass; docs/protocol.md says what each one means and when it is sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from qied_client.errors import QiedError, from_code
from qied_client.protocol import limits
from qied_client.protocol.fields import (
    Body,
    Flag,
    Hash,
    Identifier,
    Int,
    Later,
    ListOf,
    Maybe,
    Nested,
    OneOf,
    Scalars,
    Text,
)
from qied_client.protocol.message import Message, cut_text, fitting
from qied_client.protocol.request import EditRequest

_COUNT = Int(0, 2**63 - 1)
_BYTES = Int(0, limits.BLOB_BYTES)
_ID = Identifier(limits.ID_CHARS)
_TEXT = Text(limits.TEXT_CHARS, empty=True)
_STATES = ("waiting", "running", "succeeded", "failed", "cancelled", "poisoned")
_SIDE = Int(0, limits.PIXELS)


# Connection


@dataclass(frozen=True)
class Hello(Message):
    """First message of a client: the versions that it speaks."""

    TYPE = b"HELLO"
    id: Annotated[int, _COUNT]
    min_version: Annotated[int, Int(0, 255)]
    max_version: Annotated[int, Int(0, 255)]
    software: Annotated[str, Text(limits.NAME_CHARS)]


@dataclass(frozen=True)
class Welcome(Message):
    """Answer to HELLO: the version in use, who the client is, and the limits of this daemon."""

    TYPE = b"WELCOME"
    re: Annotated[int, _COUNT]
    version: Annotated[int, Int(0, 255)]
    software: Annotated[str, Text(limits.NAME_CHARS)]
    user: Annotated[str, _ID]
    model: Annotated[str, Text(limits.NAME_CHARS)]
    presets: Annotated[tuple[str, ...], ListOf(Identifier(limits.NAME_CHARS), 32)]
    heartbeat_ms: Annotated[int, Int(1, 3_600_000)]
    silence_ms: Annotated[int, Int(1, 3_600_000)]
    chunk_bytes: Annotated[int, Int(1, limits.CHUNK_BYTES)]
    credit: Annotated[int, Int(1, 64)]
    blob_bytes: Annotated[int, _COUNT]
    max_images: Annotated[int, Int(1, limits.IMAGES)]


@dataclass(frozen=True)
class Ping(Message):
    """Are you alive, and have you read what came before? Either side may ask."""

    TYPE = b"PING"
    nonce: Annotated[int, _COUNT]


@dataclass(frozen=True)
class Pong(Message):
    """Answer to PING with its nonce, at once and in the order of messages."""

    TYPE = b"PONG"
    nonce: Annotated[int, _COUNT]


@dataclass(frozen=True)
class Bye(Message):
    """The sender leaves: nothing follows. Jobs stay as they are."""

    TYPE = b"BYE"
    reason: Annotated[str, _TEXT] = ""


@dataclass(frozen=True)
class Failure(Message):
    """A typed error, as answer to the request ``re`` (null: to something without an id)."""

    TYPE = b"ERROR"
    re: Annotated[int | None, Maybe(_COUNT)]
    code: Annotated[str, Identifier(limits.NAME_CHARS)]
    message: Annotated[str, _TEXT]
    remedy: Annotated[str, _TEXT] = ""
    details: Annotated[dict[str, Any], Scalars()] = field(default_factory=dict)

    @classmethod
    def of(cls, error: QiedError, re: int | None) -> Failure:
        """Message that carries an error to the other side, cut to the limits of the wire."""
        details = {key: value for key, value in error.details.items() if key not in ("id", "code")}
        message, remedy = (cut_text(text, limits.TEXT_CHARS) for text in (error.message, error.remedy))
        return cls(re, error.code, message, remedy, fitting(details))

    def error(self) -> QiedError:
        """Typed error that the message carries."""
        return from_code(self.code, self.message, self.remedy, self.details)


# Blobs


@dataclass(frozen=True)
class Put(Message):
    """Offer of a blob: answered by STORED where the daemon has it, else by WANT."""

    TYPE = b"PUT"
    id: Annotated[int, _COUNT]
    hash: Annotated[str, Hash()]
    size: Annotated[int, Int(1, limits.BLOB_BYTES)]


@dataclass(frozen=True)
class Want(Message):
    """Send the blob of PUT ``re`` from ``offset`` on, with ``credit`` chunks under way at most."""

    TYPE = b"WANT"
    re: Annotated[int, _COUNT]
    offset: Annotated[int, _BYTES]
    credit: Annotated[int, Int(1, 64)]


@dataclass(frozen=True)
class Chunk(Message):
    """Bytes of a blob; ``transfer`` is the id of the PUT or GET that it belongs to, ``total`` the blob's size."""

    TYPE = b"CHUNK"
    transfer: Annotated[int, _COUNT]
    offset: Annotated[int, _BYTES]
    total: Annotated[int, _BYTES]
    data: Annotated[bytes | memoryview, Body(1, limits.CHUNK_BYTES)] = b""


@dataclass(frozen=True)
class More(Message):
    """Acknowledges chunks of ``transfer`` and allows as many more to be sent."""

    TYPE = b"MORE"
    transfer: Annotated[int, _COUNT]
    credit: Annotated[int, Int(1, 64)]


@dataclass(frozen=True)
class Stored(Message):
    """The blob of PUT ``re`` is complete, checked and on disk."""

    TYPE = b"STORED"
    re: Annotated[int, _COUNT]
    hash: Annotated[str, Hash()]


@dataclass(frozen=True)
class Get(Message):
    """Ask for a blob from ``offset`` on; answered by CHUNKs."""

    TYPE = b"GET"
    id: Annotated[int, _COUNT]
    hash: Annotated[str, Hash()]
    offset: Annotated[int, _BYTES] = 0
    credit: Annotated[int, Int(1, 64)] = limits.CREDIT


@dataclass(frozen=True)
class Drop(Message):
    """Ends the transfer of this id before its end."""

    TYPE = b"DROP"
    transfer: Annotated[int, _COUNT]


# Jobs


@dataclass(frozen=True)
class ImageSize:
    """Size of an input picture as displayed (after its EXIF orientation), in pixels."""

    width: Annotated[int, Int(1, limits.PIXELS)]
    height: Annotated[int, Int(1, limits.PIXELS)]


@dataclass(frozen=True)
class Quote(Message):
    """What would this cost? Asked before any upload, so the sizes of the pictures come with it."""

    TYPE = b"QUOTE"
    id: Annotated[int, _COUNT]
    request: Annotated[EditRequest, Nested(EditRequest)]
    sizes: Annotated[tuple[ImageSize, ...], ListOf(Nested(ImageSize), limits.IMAGES)]


@dataclass(frozen=True)
class Quoted(Message):
    """The plan and price of a request, and the nearest size that fits where it is above the cap."""

    TYPE = b"QUOTED"
    re: Annotated[int, _COUNT]
    fits: Annotated[bool, Flag()]
    width: Annotated[int, _SIDE]
    height: Annotated[int, _SIDE]
    steps: Annotated[int, Int(1, limits.STEPS)]
    forwards: Annotated[int, _COUNT]
    precision: Annotated[str, Identifier(limits.NAME_CHARS)]
    bytes: Annotated[int, _COUNT]
    milliseconds: Annotated[int, _COUNT]
    starts_in_ms: Annotated[int | None, Maybe(_COUNT)]
    nearest_width: Annotated[int, _SIDE]
    nearest_height: Annotated[int, _SIDE]


@dataclass(frozen=True)
class Submit(Message):
    """Ask for an edit under the client's own job id.

    With ``session`` it is a turn: ``images`` may then be empty, and the turn edits the result of turn ``base`` (0 is
    the session's first picture, null the latest), which becomes the first image.
    """

    TYPE = b"SUBMIT"
    id: Annotated[int, _COUNT]
    job: Annotated[str, _ID]
    request: Annotated[EditRequest, Nested(EditRequest)]
    payload_hash: Annotated[str, Hash()]
    session: Annotated[str | None, Maybe(_ID)] = None
    base: Annotated[int | None, Maybe(Int(0, 2**31))] = None


@dataclass(frozen=True)
class Accepted(Message):
    """The job is on disk and will end in exactly one outcome; ``known`` where the same SUBMIT came before."""

    TYPE = b"ACCEPTED"
    re: Annotated[int, _COUNT]
    job: Annotated[str, _ID]
    known: Annotated[bool, Flag()]
    width: Annotated[int, _SIDE]
    height: Annotated[int, _SIDE]
    steps: Annotated[int, Int(1, limits.STEPS)]
    place: Annotated[int | None, Maybe(_COUNT)] = None
    starts_in_ms: Annotated[int | None, Maybe(_COUNT)] = None
    turn: Annotated[int | None, Maybe(Int(0, 2**31))] = None


@dataclass(frozen=True)
class Resume(Message):
    """Send the events of a job with numbers above ``after``, now and as they come; its RESULT ends them."""

    TYPE = b"RESUME"
    id: Annotated[int, _COUNT]
    job: Annotated[str, _ID]
    after: Annotated[int, _COUNT] = 0


@dataclass(frozen=True)
class Resumed(Message):
    """Answer to RESUME: the job's state now."""

    TYPE = b"RESUMED"
    re: Annotated[int, _COUNT]
    job: Annotated[str, _ID]
    state: Annotated[str, OneOf(_STATES)]


@dataclass(frozen=True)
class Event(Message):
    """Progress of a job; numbers only grow, gaps mean nothing. The body is a small JPEG where ``kind`` is preview."""

    TYPE = b"EVENT"
    job: Annotated[str, _ID]
    number: Annotated[int, _COUNT]
    kind: Annotated[str, OneOf(("queued", "started", "phase", "step", "preview", "requeued"))]
    place: Annotated[int | None, Maybe(_COUNT)] = None
    starts_in_ms: Annotated[int | None, Maybe(_COUNT)] = None
    phase: Annotated[str | None, Maybe(Identifier(limits.NAME_CHARS))] = None
    step: Annotated[int, _COUNT] = 0
    steps: Annotated[int, _COUNT] = 0
    remaining_ms: Annotated[int | None, Maybe(_COUNT)] = None
    note: Annotated[str, _TEXT] = ""
    preview: Annotated[bytes | memoryview, Body(0, limits.PREVIEW_BYTES)] = b""


@dataclass(frozen=True)
class Result(Message):
    """The one outcome of a job; the picture is fetched by GET with ``blob``."""

    TYPE = b"RESULT"
    job: Annotated[str, _ID]
    number: Annotated[int, _COUNT]
    state: Annotated[str, OneOf(("succeeded", "failed", "cancelled", "poisoned"))]
    blob: Annotated[str | None, Maybe(Hash())] = None
    size: Annotated[int, _BYTES] = 0
    media_type: Annotated[str, Text(64, empty=True)] = ""
    width: Annotated[int, _SIDE] = 0
    height: Annotated[int, _SIDE] = 0
    seed: Annotated[int, Int(0, limits.SEED)] = 0
    timings: Annotated[dict[str, Any], Scalars()] = field(default_factory=dict)
    code: Annotated[str, Text(limits.NAME_CHARS, empty=True)] = ""
    message: Annotated[str, _TEXT] = ""
    remedy: Annotated[str, _TEXT] = ""

    def error(self) -> QiedError | None:
        """Typed error of an unsuccessful outcome, else None."""
        return from_code(self.code, self.message, self.remedy) if self.state != "succeeded" else None


@dataclass(frozen=True)
class Cancel(Message):
    """Stop a job; idempotent. The machine's owner may name the job of another ``user``."""

    TYPE = b"CANCEL"
    id: Annotated[int, _COUNT]
    job: Annotated[str, _ID]
    user: Annotated[str | None, Later(Maybe(_ID))] = None


@dataclass(frozen=True)
class Cancelling(Message):
    """Answer to CANCEL: ``cancelled``, now or before, or ``finished`` before that in ``state``."""

    TYPE = b"CANCELLING"
    re: Annotated[int, _COUNT]
    job: Annotated[str, _ID]
    answer: Annotated[str, OneOf(("cancelled", "finished"))]
    state: Annotated[str, OneOf(_STATES)]


@dataclass(frozen=True)
class Release(Message):
    """The client has the result: it may be deleted. Idempotent."""

    TYPE = b"RELEASE"
    id: Annotated[int, _COUNT]
    job: Annotated[str, _ID]


@dataclass(frozen=True)
class Released(Message):
    """Answer to RELEASE."""

    TYPE = b"RELEASED"
    re: Annotated[int, _COUNT]
    job: Annotated[str, _ID]


# Sessions


@dataclass(frozen=True)
class Open(Message):
    """Open a multi-turn session on an uploaded picture, under the client's own session id; idempotent."""

    TYPE = b"OPEN"
    id: Annotated[int, _COUNT]
    session: Annotated[str, _ID]
    image: Annotated[str, Hash()]


@dataclass(frozen=True)
class Undo(Message):
    """Go back to the picture that turn ``turn`` edited; named, so that asking twice undoes once."""

    TYPE = b"UNDO"
    id: Annotated[int, _COUNT]
    session: Annotated[str, _ID]
    turn: Annotated[int, Int(1, 2**31)]


@dataclass(frozen=True)
class History(Message):
    """Ask for a session's turns, the newest ``HISTORY_TURNS`` of them."""

    TYPE = b"HISTORY"
    id: Annotated[int, _COUNT]
    session: Annotated[str, _ID]


@dataclass(frozen=True)
class Turn:
    """One turn: it edited the result of turn ``base`` (0 is the first picture)."""

    turn: Annotated[int, Int(1, 2**31)]
    base: Annotated[int, Int(0, 2**31)]
    job: Annotated[str, _ID]
    state: Annotated[str, OneOf((*_STATES, "released"))]


@dataclass(frozen=True)
class SessionState(Message):
    """A session as it stands: ``head`` is the turn whose result is the latest picture."""

    TYPE = b"SESSION"
    re: Annotated[int, _COUNT]
    session: Annotated[str, _ID]
    source: Annotated[str, Hash()]
    head: Annotated[int, Int(0, 2**31)]
    turns: Annotated[tuple[Turn, ...], ListOf(Nested(Turn), limits.HISTORY_TURNS)]


@dataclass(frozen=True)
class Close(Message):
    """End a session: its pictures and caches may be deleted. Idempotent."""

    TYPE = b"CLOSE"
    id: Annotated[int, _COUNT]
    session: Annotated[str, _ID]


@dataclass(frozen=True)
class Closed(Message):
    """Answer to CLOSE."""

    TYPE = b"CLOSED"
    re: Annotated[int, _COUNT]
    session: Annotated[str, _ID]


# Status


@dataclass(frozen=True)
class Status(Message):
    """Ask what the daemon is doing. The machine's owner may ask for the ids of ``everyone``."""

    TYPE = b"STATUS"
    id: Annotated[int, _COUNT]
    everyone: Annotated[bool, Later(Flag())] = False


@dataclass(frozen=True)
class JobRow:
    """One job in a status report; jobs of other users show no id."""

    user: Annotated[str, _ID]
    job: Annotated[str | None, Maybe(_ID)]
    state: Annotated[str, OneOf(_STATES)]
    step: Annotated[int, _COUNT]
    steps: Annotated[int, _COUNT]
    width: Annotated[int, _SIDE]
    height: Annotated[int, _SIDE]
    place: Annotated[int | None, Maybe(_COUNT)]
    starts_in_ms: Annotated[int | None, Maybe(_COUNT)]


@dataclass(frozen=True)
class WorkerRow:
    """One worker's ledger in bytes: ``weights + state + arena + free`` is its budget.

    ``trouble`` is what keeps it from working, and what to do about that.
    """

    worker: Annotated[str, _ID]
    state: Annotated[str, OneOf(("starting", "ready", "draining", "lost", "unloaded"))]
    device: Annotated[str, Text(limits.NAME_CHARS, empty=True)]
    budget: Annotated[int, _COUNT]
    weights: Annotated[int, _COUNT]
    sessions: Annotated[int, _COUNT]
    arena: Annotated[int, _COUNT]
    free: Annotated[int, _COUNT]
    restarts: Annotated[int, _COUNT]
    trouble: Annotated[str, Later(Text(limits.TROUBLE_BYTES, empty=True))] = ""


@dataclass(frozen=True)
class SessionRow:
    """One session in a status report; sessions of other users show no id."""

    user: Annotated[str, _ID]
    session: Annotated[str | None, Maybe(_ID)]
    turns: Annotated[int, _COUNT]
    idle_ms: Annotated[int, _COUNT]


@dataclass(frozen=True)
class StatusReport(Message):
    """What the daemon is doing: counts of all, and the first ``STATUS_ROWS`` rows of each table.

    ``finishing``: it accepts no more jobs and stops once those it has are done.
    """

    TYPE = b"STATUSREPORT"
    re: Annotated[int, _COUNT]
    model: Annotated[str, Text(limits.NAME_CHARS)]
    precision: Annotated[str, Identifier(limits.NAME_CHARS)]
    uptime_ms: Annotated[int, _COUNT]
    clients: Annotated[int, _COUNT]
    waiting: Annotated[int, _COUNT]
    running: Annotated[int, _COUNT]
    stored: Annotated[int, _COUNT]
    blob_bytes: Annotated[int, _COUNT]
    blob_limit: Annotated[int, _COUNT]
    draining: Annotated[bool, Flag()]
    workers: Annotated[tuple[WorkerRow, ...], ListOf(Nested(WorkerRow), 8)]
    jobs: Annotated[tuple[JobRow, ...], ListOf(Nested(JobRow), limits.STATUS_ROWS)]
    sessions: Annotated[tuple[SessionRow, ...], ListOf(Nested(SessionRow), limits.STATUS_ROWS)]
    paused: Annotated[bool, Later(Flag())] = False
    finishing: Annotated[bool, Later(Flag())] = False


# Control


CONTROLS = ("pause", "resume", "unload", "load", "stop", "stop_when_done")


@dataclass(frozen=True)
class Control(Message):
    """An order of the machine's owner to the daemon; refused to everybody else. Idempotent.

    ``pause`` and ``resume`` concern the start of jobs, ``unload`` and ``load`` the workers' processes and memory.
    """

    TYPE = b"CONTROL"
    id: Annotated[int, _COUNT]
    action: Annotated[str, OneOf(CONTROLS)]


@dataclass(frozen=True)
class Controlled(Message):
    """Answer to CONTROL, and the jobs that there are now."""

    TYPE = b"CONTROLLED"
    re: Annotated[int, _COUNT]
    action: Annotated[str, OneOf(CONTROLS)]
    running: Annotated[int, _COUNT]
    waiting: Annotated[int, _COUNT]
