"""Which keys are let in at this moment: the enrolled clients from disk, and the workers that were started."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qied.server.dispatcher import now_ms
from qied.server.keys import KeyStore

_REFRESH_MS = 500


class GuestList:
    """Looks keys up for the authenticator. Changes made by ``qied keys`` count within half a second."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._stamp: object = None
        self._looked_ms = -_REFRESH_MS
        self._clients: Mapping[bytes, str] = {}
        self._names: frozenset[str] = frozenset()
        self.workers: Callable[[bytes], str | None] = lambda key: None

    def lookup(self, domain: str, key: bytes) -> str | None:
        """Name behind a public key (Z85) on the port of this domain, or None."""
        if domain == "worker":
            return self.workers(key)
        self._refresh()
        return self._clients.get(key) if domain == "client" else None

    def is_enrolled(self, name: str) -> bool:
        """Whether a client of this name is enrolled still."""
        self._refresh()
        return name in self._names

    def _refresh(self) -> None:
        if now_ms() - self._looked_ms < _REFRESH_MS:
            return
        self._looked_ms = now_ms()
        stamp = self._store.version()
        if stamp != self._stamp:
            self._stamp = stamp
            self._clients = self._store.authorised()
            self._names = frozenset(self._clients.values())
