"""Orders that the front gives a worker, and reports that it gets back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.codec import registry
from qied_client.protocol.fields import Body, Flag, Hash, Identifier, Int, ListOf, Maybe, Nested, Scalars, Text

from qied.edit import EditSpec

_ID = Identifier(limits.ID_CHARS)
_COUNT = Int(0, 2**63 - 1)
_TEXT = Text(limits.TEXT_CHARS, empty=True)


@dataclass(frozen=True)
class Attach(m.Message):
    """First message of a worker, before its engine is loaded."""

    TYPE = b"ATTACH"
    id: Annotated[int, _COUNT]
    worker: Annotated[str, _ID]


@dataclass(frozen=True)
class Attached(m.Message):
    """Answer to ATTACH."""

    TYPE = b"ATTACHED"
    re: Annotated[int, _COUNT]
    heartbeat_ms: Annotated[int, Int(1, 3_600_000)]
    silence_ms: Annotated[int, Int(1, 3_600_000)]


@dataclass(frozen=True)
class Loading(m.Message):
    """Report: how far the engine is loaded, in bytes."""

    TYPE = b"LOADING"
    what: Annotated[str, Text(limits.NAME_CHARS)]
    done: Annotated[int, _COUNT]
    total: Annotated[int, _COUNT]


@dataclass(frozen=True)
class Offer(m.Message):
    """Report: the engine is loaded; what it offers, in bytes."""

    TYPE = b"OFFER"
    device: Annotated[str, Text(limits.NAME_CHARS)]
    precision: Annotated[str, Identifier(limits.NAME_CHARS)]
    budget_bytes: Annotated[int, _COUNT]
    weights_bytes: Annotated[int, _COUNT]
    max_active: Annotated[int, Int(1, 1024)]


@dataclass(frozen=True)
class Memory(m.Message):
    """Report: the device memory that the worker has taken, and the free memory, in bytes."""

    TYPE = b"MEMORY"
    own_bytes: Annotated[int, _COUNT]
    free_bytes: Annotated[int, _COUNT]


@dataclass(frozen=True)
class Broken(m.Message):
    """Report: the engine cannot be loaded; the worker ends."""

    TYPE = b"BROKEN"
    code: Annotated[str, Identifier(limits.NAME_CHARS)]
    message: Annotated[str, _TEXT]
    remedy: Annotated[str, _TEXT]


@dataclass(frozen=True)
class Begin(m.Message):
    """Order: take this edit up. ``scope`` names the cache that it may use: user, slash, session if any."""

    TYPE = b"BEGIN"
    user: Annotated[str, _ID]
    job: Annotated[str, _ID]
    spec: Annotated[EditSpec, Nested(EditSpec)]
    scope: Annotated[str, Text(2 * limits.ID_CHARS + 1)]
    weight: Annotated[int, Int(1, 1_000_000)]
    preview: Annotated[bool, Flag()]
    preemptible: Annotated[bool, Flag()] = False


@dataclass(frozen=True)
class StopEdit(m.Message):
    """Order: drop this edit within a step; answered by a FAILED with code job_cancelled, if it was still held."""

    TYPE = b"STOP"
    user: Annotated[str, _ID]
    job: Annotated[str, _ID]


@dataclass(frozen=True)
class ForgetScope(m.Message):
    """Order: drop the cache of a scope, its session is closed."""

    TYPE = b"FORGET"
    scope: Annotated[str, Text(2 * limits.ID_CHARS + 1)]


@dataclass(frozen=True)
class Prepared(m.Message):
    """Report: the pictures of an edit are decoded, and the engine has it from now on."""

    TYPE = b"PREPARED"
    user: Annotated[str, _ID]
    job: Annotated[str, _ID]


@dataclass(frozen=True)
class Stepped(m.Message):
    """Report: one unit of work is done. ``spent_ms`` since the last report, ``remaining_ms`` to the end of the edit.

    ``step_ms`` are those of one denoising step as it was last measured, where one was since the last report.
    ``together`` is how many edits took their steps in one turn; one of their reports has it, the others 0.
    """

    TYPE = b"STEPPED"
    user: Annotated[str, _ID]
    job: Annotated[str, _ID]
    phase: Annotated[str, Identifier(limits.NAME_CHARS)]
    step: Annotated[int, _COUNT]
    steps: Annotated[int, _COUNT]
    spent_ms: Annotated[int, _COUNT]
    remaining_ms: Annotated[int, _COUNT]
    step_ms: Annotated[int | None, Maybe(_COUNT)] = None
    together: Annotated[int, _COUNT] = 0
    preview: Annotated[bytes | memoryview, Body(0, limits.PREVIEW_BYTES)] = b""


@dataclass(frozen=True)
class EditFinished(m.Message):
    """Report: the result is uploaded under ``blob``.

    ``warnings`` came up while it was made, and ``drift`` was measured, if it could be. The body is a JPEG whose longer
    side has at most 256 pixels, or empty.
    """

    TYPE = b"FINISHED"
    user: Annotated[str, _ID]
    job: Annotated[str, _ID]
    blob: Annotated[str, Hash()]
    size: Annotated[int, Int(1, limits.RESULT_BYTES)]
    media_type: Annotated[str, Text(64)]
    timings: Annotated[dict[str, Any], Scalars(limits.TIMINGS)] = field(default_factory=dict)
    warnings: Annotated[tuple[str, ...], ListOf(Text(limits.WARNING_BYTES), limits.WARNINGS)] = ()
    drift: Annotated[m.MeasuredDrift | None, Maybe(Nested(m.MeasuredDrift))] = None
    thumbnail: Annotated[bytes | memoryview, Body(0, limits.THUMBNAIL_BYTES)] = b""


@dataclass(frozen=True)
class EditFailed(m.Message):
    """Report: the edit is given up, with a typed error."""

    TYPE = b"FAILED"
    user: Annotated[str, _ID]
    job: Annotated[str, _ID]
    code: Annotated[str, Identifier(limits.NAME_CHARS)]
    message: Annotated[str, _TEXT]
    remedy: Annotated[str, _TEXT]
    retry_smaller: Annotated[bool, Flag()]


FROM_WORKER = registry(
    Attach,
    Loading,
    Offer,
    Memory,
    Broken,
    Prepared,
    Stepped,
    EditFinished,
    EditFailed,
    m.Ping,
    m.Pong,
    m.Bye,
    m.Put,
    m.Chunk,
    m.More,
    m.Get,
    m.Drop,
)
FROM_FRONT = registry(
    Attached, Begin, StopEdit, ForgetScope, m.Ping, m.Pong, m.Bye, m.Failure, m.Want, m.More, m.Stored, m.Chunk, m.Drop
)
