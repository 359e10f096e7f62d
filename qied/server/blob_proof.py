"""Proof that a user has the bytes of a blob that is stored already: all of them, not only their hash."""

from __future__ import annotations

import hashlib

from qied_client.errors import BlobMismatch, ProtocolError


class Proof:
    """Takes the chunks of an upload as the store does, and keeps nothing but their hash."""

    def __init__(self, digest: str, size: int) -> None:
        self.offset = 0
        self._wanted = digest
        self._size = size
        self._digest = hashlib.sha256()

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Take the next bytes; raises ProtocolError for others than those."""
        if offset != self.offset or offset + len(data) > self._size:
            raise ProtocolError(f"A chunk at {offset} came where {self.offset} of {self._size} was next.")
        self._digest.update(data)
        self.offset += len(data)

    def finish(self) -> None:
        """Raises BlobMismatch where these were not the bytes of the blob."""
        if self._digest.hexdigest() != self._wanted:
            raise BlobMismatch("The bytes do not have the hash that was announced.", "Hash what you send.")
