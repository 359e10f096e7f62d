"""Greetings, heartbeats, farewells and typed errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from qied_client.errors import QiedError, from_code
from qied_client.protocol import limits
from qied_client.protocol.fields import Identifier, Int, Later, ListOf, Maybe, Scalars, Text
from qied_client.protocol.message import Message, cut_text, fitting
from qied_client.protocol.messages.checks import COUNT, ID, TEXT


@dataclass(frozen=True)
class Hello(Message):
    """First message of a client: the versions that it speaks.

    ``user``: a gateway speaks for this enrolled user from now on, who then counts in everything in its place.
    """

    TYPE = b"HELLO"
    id: Annotated[int, COUNT]
    min_version: Annotated[int, Int(0, 255)]
    max_version: Annotated[int, Int(0, 255)]
    software: Annotated[str, Text(limits.NAME_CHARS)]
    user: Annotated[str | None, Later(Maybe(ID))] = None


@dataclass(frozen=True)
class Welcome(Message):
    """Answer to HELLO: the version in use, who the client is, and the limits of this daemon.

    ``uploads`` and ``requests`` are how many one connection may have under way. ``max_images`` is 0 for a model that
    makes pictures from text alone.
    """

    TYPE = b"WELCOME"
    re: Annotated[int, COUNT]
    version: Annotated[int, Int(0, 255)]
    software: Annotated[str, Text(limits.NAME_CHARS)]
    user: Annotated[str, ID]
    model: Annotated[str, Text(limits.NAME_CHARS)]
    presets: Annotated[tuple[str, ...], ListOf(Identifier(limits.NAME_CHARS), 32)]
    heartbeat_ms: Annotated[int, Int(1, 3_600_000)]
    silence_ms: Annotated[int, Int(1, 3_600_000)]
    chunk_bytes: Annotated[int, Int(1, limits.CHUNK_BYTES)]
    credit: Annotated[int, Int(1, 64)]
    blob_bytes: Annotated[int, COUNT]
    max_images: Annotated[int, Int(0, limits.IMAGES)]
    uploads: Annotated[int, Later(Int(1, 1_000_000))] = 8
    requests: Annotated[int, Later(Int(1, 1_000_000))] = 64


@dataclass(frozen=True)
class Ping(Message):
    """Are you alive, and have you read what came before? Either side may ask."""

    TYPE = b"PING"
    nonce: Annotated[int, COUNT]


@dataclass(frozen=True)
class Pong(Message):
    """Answer to PING with its nonce, at once and in the order of messages."""

    TYPE = b"PONG"
    nonce: Annotated[int, COUNT]


@dataclass(frozen=True)
class Bye(Message):
    """The sender leaves: nothing follows. Jobs stay as they are."""

    TYPE = b"BYE"
    reason: Annotated[str, TEXT] = ""


@dataclass(frozen=True)
class Failure(Message):
    """A typed error, as answer to the request ``re`` (null: to something without an id)."""

    TYPE = b"ERROR"
    re: Annotated[int | None, Maybe(COUNT)]
    code: Annotated[str, Identifier(limits.NAME_CHARS)]
    message: Annotated[str, TEXT]
    remedy: Annotated[str, TEXT] = ""
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
