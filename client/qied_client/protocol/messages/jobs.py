"""One job: its price, its acceptance, its events, its outcome and its end."""

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
    Real,
    Scalars,
    Text,
)
from qied_client.protocol.message import Message
from qied_client.protocol.messages.checks import BYTES, COUNT, ID, NAME, SIDE, STATES, TEXT, WARNINGS
from qied_client.protocol.request import EditRequest


@dataclass(frozen=True)
class ImageSize:
    """Size of an input picture as displayed (after its EXIF orientation), in pixels."""

    width: Annotated[int, Int(1, limits.PIXELS)]
    height: Annotated[int, Int(1, limits.PIXELS)]


@dataclass(frozen=True)
class MeasuredDrift:
    """How far a result had drifted from the picture that gave it its size; ``undone`` says that it no longer has.

    Its content lay ``x`` pixels further right and ``y`` further down at the centre, and was ``zoom`` times as large.
    """

    x: Annotated[float, Real(-limits.SIDE_PX, limits.SIDE_PX)]
    y: Annotated[float, Real(-limits.SIDE_PX, limits.SIDE_PX)]
    zoom: Annotated[float, Real(0.0, 16.0)]
    undone: Annotated[bool, Flag()]


@dataclass(frozen=True)
class Quote(Message):
    """What would this cost? Asked before any upload, so the sizes of the pictures come with it, and of a canvas."""

    TYPE = b"QUOTE"
    id: Annotated[int, COUNT]
    request: Annotated[EditRequest, Nested(EditRequest)]
    sizes: Annotated[tuple[ImageSize, ...], ListOf(Nested(ImageSize), limits.IMAGES)]
    canvas: Annotated[ImageSize | None, Later(Maybe(Nested(ImageSize)))] = None


@dataclass(frozen=True)
class Quoted(Message):
    """The plan and price of a request, and the nearest size that fits where it is above the cap."""

    TYPE = b"QUOTED"
    re: Annotated[int, COUNT]
    fits: Annotated[bool, Flag()]
    width: Annotated[int, SIDE]
    height: Annotated[int, SIDE]
    steps: Annotated[int, Int(1, limits.STEPS)]
    forwards: Annotated[int, COUNT]
    precision: Annotated[str, Identifier(limits.NAME_CHARS)]
    bytes: Annotated[int, COUNT]
    milliseconds: Annotated[int, COUNT]
    starts_in_ms: Annotated[int | None, Maybe(COUNT)]
    nearest_width: Annotated[int, SIDE]
    nearest_height: Annotated[int, SIDE]
    warnings: Annotated[tuple[str, ...], Later(WARNINGS)] = ()


@dataclass(frozen=True)
class Submit(Message):
    """Ask for an edit under the client's own job id.

    With ``session`` it is a turn: ``images`` may then be empty, and the turn edits the result of turn ``base`` (0 is
    the session's first picture, null the latest), which becomes the first image.
    """

    TYPE = b"SUBMIT"
    id: Annotated[int, COUNT]
    job: Annotated[str, ID]
    request: Annotated[EditRequest, Nested(EditRequest)]
    payload_hash: Annotated[str, Hash()]
    session: Annotated[str | None, Maybe(ID)] = None
    base: Annotated[int | None, Maybe(Int(0, 2**31))] = None


@dataclass(frozen=True)
class Accepted(Message):
    """The job is on disk and will end in exactly one outcome; ``known`` where the same SUBMIT came before."""

    TYPE = b"ACCEPTED"
    re: Annotated[int, COUNT]
    job: Annotated[str, ID]
    known: Annotated[bool, Flag()]
    width: Annotated[int, SIDE]
    height: Annotated[int, SIDE]
    steps: Annotated[int, Int(1, limits.STEPS)]
    place: Annotated[int | None, Maybe(COUNT)] = None
    starts_in_ms: Annotated[int | None, Maybe(COUNT)] = None
    turn: Annotated[int | None, Maybe(Int(0, 2**31))] = None
    warnings: Annotated[tuple[str, ...], Later(WARNINGS)] = ()


@dataclass(frozen=True)
class Resume(Message):
    """Send the events of a job with numbers above ``after``, now and as they come; its RESULT ends them."""

    TYPE = b"RESUME"
    id: Annotated[int, COUNT]
    job: Annotated[str, ID]
    after: Annotated[int, COUNT] = 0


@dataclass(frozen=True)
class Resumed(Message):
    """Answer to RESUME: the job's state now."""

    TYPE = b"RESUMED"
    re: Annotated[int, COUNT]
    job: Annotated[str, ID]
    state: Annotated[str, OneOf(STATES)]


@dataclass(frozen=True)
class Event(Message):
    """Progress of a job; numbers only grow, gaps mean nothing. The body is a small JPEG where ``kind`` is preview."""

    TYPE = b"EVENT"
    job: Annotated[str, ID]
    number: Annotated[int, COUNT]
    kind: Annotated[str, OneOf(("queued", "started", "phase", "step", "preview", "requeued"))]
    place: Annotated[int | None, Maybe(COUNT)] = None
    starts_in_ms: Annotated[int | None, Maybe(COUNT)] = None
    phase: Annotated[str | None, Maybe(Identifier(limits.NAME_CHARS))] = None
    step: Annotated[int, COUNT] = 0
    steps: Annotated[int, COUNT] = 0
    remaining_ms: Annotated[int | None, Maybe(COUNT)] = None
    note: Annotated[str, TEXT] = ""
    preview: Annotated[bytes | memoryview, Body(0, limits.PREVIEW_BYTES)] = b""


@dataclass(frozen=True)
class Result(Message):
    """The one outcome of a job; the picture is fetched by GET with ``blob``."""

    TYPE = b"RESULT"
    job: Annotated[str, ID]
    number: Annotated[int, COUNT]
    state: Annotated[str, OneOf(("succeeded", "failed", "cancelled", "poisoned"))]
    blob: Annotated[str | None, Maybe(Hash())] = None
    size: Annotated[int, BYTES] = 0
    media_type: Annotated[str, Text(64, empty=True)] = ""
    width: Annotated[int, SIDE] = 0
    height: Annotated[int, SIDE] = 0
    seed: Annotated[int, Int(0, limits.SEED)] = 0
    timings: Annotated[dict[str, Any], Scalars(limits.TIMINGS)] = field(default_factory=dict)
    code: Annotated[str, Text(limits.NAME_CHARS, empty=True)] = ""
    message: Annotated[str, TEXT] = ""
    remedy: Annotated[str, TEXT] = ""
    steps: Annotated[int, Later(Int(0, limits.STEPS))] = 0
    true_cfg_scale: Annotated[float, Later(Real(0.0, limits.CFG_SCALE))] = 0.0
    precision: Annotated[str, Later(NAME)] = ""
    preset: Annotated[str, Later(NAME)] = ""
    schedule: Annotated[str, Later(NAME)] = ""
    warnings: Annotated[tuple[str, ...], Later(WARNINGS)] = ()
    drift: Annotated[MeasuredDrift | None, Later(Maybe(Nested(MeasuredDrift)))] = None

    def error(self) -> QiedError | None:
        """Typed error of an unsuccessful outcome, else None."""
        return from_code(self.code, self.message, self.remedy) if self.state != "succeeded" else None


@dataclass(frozen=True)
class Cancel(Message):
    """Stop a job; idempotent. The machine's owner may name the job of another ``user``."""

    TYPE = b"CANCEL"
    id: Annotated[int, COUNT]
    job: Annotated[str, ID]
    user: Annotated[str | None, Later(Maybe(ID))] = None


@dataclass(frozen=True)
class Cancelling(Message):
    """Answer to CANCEL: ``cancelled``, now or before, or ``finished`` before that in ``state``."""

    TYPE = b"CANCELLING"
    re: Annotated[int, COUNT]
    job: Annotated[str, ID]
    answer: Annotated[str, OneOf(("cancelled", "finished"))]
    state: Annotated[str, OneOf(STATES)]


@dataclass(frozen=True)
class Release(Message):
    """The client has the result: it may be deleted; with ``keep``, not before the user's room is needed. Idempotent."""

    TYPE = b"RELEASE"
    id: Annotated[int, COUNT]
    job: Annotated[str, ID]
    keep: Annotated[bool, Later(Flag())] = False


@dataclass(frozen=True)
class Released(Message):
    """Answer to RELEASE."""

    TYPE = b"RELEASED"
    re: Annotated[int, COUNT]
    job: Annotated[str, ID]
