"""Pictures on their way: offers, chunks and credit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from qied_client.protocol import limits
from qied_client.protocol.fields import Body, Hash, Int
from qied_client.protocol.message import Message
from qied_client.protocol.messages.checks import BYTES, COUNT


@dataclass(frozen=True)
class Put(Message):
    """Offer of a blob: answered by STORED where the daemon has it, else by WANT.

    A client's may have 64 MiB; results, which workers bring, more.
    """

    TYPE = b"PUT"
    id: Annotated[int, COUNT]
    hash: Annotated[str, Hash()]
    size: Annotated[int, Int(1, limits.RESULT_BYTES)]


@dataclass(frozen=True)
class Want(Message):
    """Send the blob of PUT ``re`` from ``offset`` on, with ``credit`` chunks under way at most."""

    TYPE = b"WANT"
    re: Annotated[int, COUNT]
    offset: Annotated[int, BYTES]
    credit: Annotated[int, Int(1, 64)]


@dataclass(frozen=True)
class Chunk(Message):
    """Bytes of a blob; ``transfer`` is the id of the PUT or GET that it belongs to, ``total`` the blob's size."""

    TYPE = b"CHUNK"
    transfer: Annotated[int, COUNT]
    offset: Annotated[int, BYTES]
    total: Annotated[int, BYTES]
    data: Annotated[bytes | memoryview, Body(1, limits.CHUNK_BYTES)] = b""


@dataclass(frozen=True)
class More(Message):
    """Acknowledges chunks of ``transfer`` and allows as many more to be sent."""

    TYPE = b"MORE"
    transfer: Annotated[int, COUNT]
    credit: Annotated[int, Int(1, 64)]


@dataclass(frozen=True)
class Stored(Message):
    """The blob of PUT ``re`` is complete, checked and on disk."""

    TYPE = b"STORED"
    re: Annotated[int, COUNT]
    hash: Annotated[str, Hash()]


@dataclass(frozen=True)
class Get(Message):
    """Ask for a blob from ``offset`` on; answered by CHUNKs."""

    TYPE = b"GET"
    id: Annotated[int, COUNT]
    hash: Annotated[str, Hash()]
    offset: Annotated[int, BYTES] = 0
    credit: Annotated[int, Int(1, 64)] = limits.CREDIT


@dataclass(frozen=True)
class Drop(Message):
    """Ends the transfer of this id before its end."""

    TYPE = b"DROP"
    transfer: Annotated[int, COUNT]
