"""Which user may name which blob, and which blobs are needed at this moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from qied_client.errors import UnknownBlob

from qied.server.journal.changes import Key, OwnBlob


class Ownership:
    """A blob belongs to each user who uploaded it or got it as a result; knowing its hash is not enough."""

    def __init__(self, owners: Iterable[OwnBlob]) -> None:
        self._owners: dict[Key, OwnBlob] = {(owner.user, owner.hash): owner for owner in owners}
        self._held: Counter[str] = Counter()

    def may_read(self, user: str, blob: str) -> bool:
        """Whether the user may have this blob."""
        return (user, blob) in self._owners

    def own(self, owner: OwnBlob) -> None:
        """Enter an ownership that is in the journal."""
        self._owners[owner.user, owner.hash] = owner

    def disown(self, keys: Iterable[Key]) -> None:
        """Forget ownerships."""
        for key in keys:
            self._owners.pop(key, None)

    @contextmanager
    def hold(self, user: str, blobs: Sequence[str]) -> Iterator[None]:
        """Keep blobs from being collected while a request on them is taken in; raises UnknownBlob."""
        for blob in blobs:
            if not self.may_read(user, blob):
                raise UnknownBlob(f"You have no blob {blob[:12]}….", "Upload the picture (again) first.", hash=blob)
        self._held.update(blobs)
        try:
            yield
        finally:
            self._held.subtract(blobs)
            self._held += Counter()

    @contextmanager
    def keep(self, blob: str) -> Iterator[None]:
        """Keep a result from being collected until it has its owner."""
        self._held[blob] += 1
        try:
            yield
        finally:
            self._held[blob] -= 1
            self._held += Counter()

    @property
    def held(self) -> frozenset[str]:
        """Blobs of requests that are being taken in."""
        return frozenset(self._held)

    @property
    def owned(self) -> frozenset[str]:
        """Blobs that somebody may name."""
        return frozenset(blob for _, blob in self._owners)

    def older_than(self, stored_before: float) -> list[OwnBlob]:
        """Ownerships from before that moment (seconds since the epoch)."""
        return [owner for owner in self._owners.values() if owner.stored_at < stored_before]

    def of_blob(self, blob: str) -> list[Key]:
        return [key for key in self._owners if key[1] == blob]
