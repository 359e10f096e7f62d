"""Blobs in pieces, without I/O: a sender that keeps to its credit, and a receiver that checks what it gets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Protocol

from qied_client.errors import BlobMismatch, ProtocolError
from qied_client.protocol import limits
from qied_client.protocol.messages import Chunk


class Source(Protocol):
    """Bytes that can be read at any offset: ``memoryview`` and ``bytes`` slices, or a file."""

    def __getitem__(self, part: slice, /) -> bytes | memoryview: ...

    def __len__(self) -> int: ...


def hash_of(data: bytes | memoryview) -> str:
    """SHA-256 of the bytes as 64 hex digits: the name of a blob."""
    return hashlib.sha256(data).hexdigest()


class Sender:
    """Cuts a blob into chunks of 256 KiB and sends only as many as the other side has allowed."""

    def __init__(self, transfer: int, source: Source, offset: int = 0, credit: int = 0) -> None:
        self.transfer = transfer
        self.source = source
        self.offset = offset
        self.credit = credit

    @property
    def done(self) -> bool:
        """Whether the last chunk was handed out."""
        return self.offset >= len(self.source)

    def restart(self, offset: int, credit: int) -> None:
        """Continue from the offset that the peer wants, with a fresh credit."""
        if offset > len(self.source):
            raise ProtocolError(f"Offset {offset} is beyond the end of a blob of {len(self.source)} bytes.")
        self.offset, self.credit = offset, credit

    def allow(self, chunks: int) -> None:
        """Add to the credit; a flood of it is cut to what the protocol allows at once."""
        self.credit = min(self.credit + chunks, 64)

    def chunks(self) -> Iterator[Chunk]:
        """Chunks that may be sent now."""
        while self.credit > 0 and not self.done:
            data = self.source[self.offset : self.offset + limits.CHUNK_BYTES]
            chunk = Chunk(self.transfer, self.offset, len(self.source), data)
            self.offset += len(data)
            self.credit -= 1
            yield chunk


class Receiver:
    """Collects the chunks of one blob in memory and checks its hash at the end."""

    def __init__(self, expected_hash: str) -> None:
        self.expected_hash = expected_hash
        self.data = bytearray()
        self.total: int | None = None
        self._digest = hashlib.sha256()

    @property
    def offset(self) -> int:
        """Bytes received so far, where a resumed transfer continues."""
        return len(self.data)

    def take(self, chunk: Chunk) -> bool:
        """Append a chunk; returns whether the blob is complete and right.

        Raises ProtocolError for a chunk out of order or beyond the announced size, BlobMismatch for a wrong hash.
        """
        if self.total is None:
            self.total = chunk.total
        if chunk.total != self.total or chunk.total > limits.RESULT_BYTES:
            raise ProtocolError(f"A transfer of {self.total} bytes continued with a chunk of one of {chunk.total}.")
        if chunk.offset != self.offset or self.offset + len(chunk.data) > self.total:
            raise ProtocolError(f"A chunk came at offset {chunk.offset} of {self.total}; {self.offset} was expected.")
        self.data += chunk.data
        self._digest.update(chunk.data)
        if self.offset < self.total:
            return False
        if self._digest.hexdigest() != self.expected_hash:
            raise BlobMismatch("The received bytes do not match their hash.", "Request them again.")
        return True
