"""Which user may name which blob, and which blobs are needed at this moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from qied_client.errors import UnknownBlob

from qied.server.blobs.ledger import counted
from qied.server.journal.changes import Key, OwnBlob


class Ownership:
    """A blob belongs to each user who uploaded it or got it as a result; knowing its hash is not enough."""

    def __init__(self, owners: Iterable[OwnBlob]) -> None:
        self._owners: dict[Key, OwnBlob] = {}
        # Tuples, since sets take four times the memory and nearly every blob has one owner.
        self._users: dict[str, tuple[str, ...]] = {}
        self._bytes: Counter[str] = Counter()
        self._held: Counter[str] = Counter()
        self._given_up: set[Key] = set()
        for owner in owners:
            self.own(owner)

    def may_read(self, user: str, blob: str) -> bool:
        """Whether the user may have this blob."""
        return (user, blob) in self._owners

    def own(self, owner: OwnBlob) -> None:
        """Enter an ownership that is in the journal."""
        self.disown([(owner.user, owner.hash)])
        self._owners[owner.user, owner.hash] = owner
        self._users[owner.hash] = (*self._users.get(owner.hash, ()), owner.user)
        self._bytes[owner.user] += counted(owner.size)

    def disown(self, keys: Iterable[Key]) -> None:
        """Forget ownerships."""
        for key in keys:
            self._given_up.discard(key)
            owner = self._owners.pop(key, None)
            if owner is not None:
                self._bytes[owner.user] -= counted(owner.size)
                others = tuple(user for user in self._users.pop(owner.hash) if user != owner.user)
                if others:
                    self._users[owner.hash] = others

    def give_up(self, user: str, blob: str) -> None:
        """The user has released a result: it stays while there is room, and makes way for the pictures of any user."""
        if (user, blob) in self._owners:
            self._given_up.add((user, blob))

    def stored_at(self, user: str, blob: str) -> float:
        """When a user uploaded or received a blob for the last time (seconds since the epoch); 0 for one of others."""
        owner = self._owners.get((user, blob))
        return 0.0 if owner is None else owner.stored_at

    def bytes_of(self, user: str) -> int:
        """Bytes of all blobs that a user owns, as they count in the user's share."""
        return self._bytes[user]

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
        return frozenset(self._users)

    def of_others(self, user: str | None) -> frozenset[str]:
        """Blobs that somebody else owns and has not given up."""
        theirs = (key for key in self._owners if key[0] != user and key not in self._given_up)
        return frozenset(blob for _, blob in theirs)

    def of_user(self, user: str, stored_before: float) -> list[OwnBlob]:
        """A user's ownerships from before that moment (seconds since the epoch), the oldest first."""
        theirs = (owner for owner in self._owners.values() if owner.user == user and owner.stored_at < stored_before)
        return sorted(theirs, key=lambda owner: owner.stored_at)

    def older_than(self, stored_before: float) -> list[OwnBlob]:
        """Ownerships from before that moment (seconds since the epoch)."""
        return [owner for owner in self._owners.values() if owner.stored_at < stored_before]

    def of_blob(self, blob: str) -> list[Key]:
        """Its ownerships."""
        return [(user, blob) for user in self._users.get(blob, ())]
