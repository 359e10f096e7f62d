"""The keys that are let in at this moment: the enrolled clients from disk, and the workers that were started."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from qied.server.access.authentication import Guest
from qied.server.access.keys import LOCAL_USER, ClientList, KeyStore
from qied.server.clock import now_ms

_REFRESH_MS = 500


class GuestList:
    """Looks keys up for the authenticator.

    Changes made by ``qied keys`` apply at once to new connections, and within half a second to open ones.
    """

    def __init__(self, store: KeyStore) -> None:
        self._log = structlog.get_logger(part="guest list")
        self._store = store
        self._stamp: object = None
        self._looked_ms = -_REFRESH_MS
        self._clients: Mapping[bytes, str] = {}
        self._gateways: frozenset[bytes] = frozenset()
        self._unread: tuple[str, ...] = ()
        self._problem = ""
        self.workers: Callable[[bytes], str | None] = lambda key: None

    def lookup(self, domain: str, key: bytes) -> str | None:
        """Name behind a public key (Z85) on the port of this domain, or None."""
        if domain == "worker":
            return self.workers(key)
        self._read()
        return self._clients.get(key) if domain == "client" else None

    def is_enrolled(self, guest: Guest) -> bool:
        """Whether a client of this name is enrolled still, with this key."""
        if now_ms() - self._looked_ms >= _REFRESH_MS:
            self._read()
        return self._clients.get(guest.key) == guest.name

    def may_speak_for(self, guest: Guest, user: str) -> bool:
        """Whether a client may act as ``user``, who is enrolled: a gateway for all but the owner, the owner for all."""
        if user not in self._clients.values():
            return False
        return guest.name == LOCAL_USER or (guest.key in self._gateways and user != LOCAL_USER)

    def refresh(self) -> None:
        """Read the enrolled clients again, whatever the stamps of their files say."""
        self._stamp = None
        self._read()

    def _read(self) -> None:
        self._looked_ms = now_ms()
        try:
            stamp = self._store.version()
            if stamp != self._stamp:
                self._take(self._store.authorised(self._clients))
                self._stamp = None if self._unread else stamp
            else:
                self._say_once("")
        except OSError as error:  # out of file descriptors, for one: then the list stays as it is for now
            self._say_once(str(error))

    def _take(self, found: ClientList) -> None:
        self._clients, self._gateways, self._unread = found.clients, found.gateways, found.unread
        for problem in found.damaged:
            self._log.warning("client_left_out", problem=problem)
        self._say_once(f"not readable now: {', '.join(found.unread)}" if found.unread else "")

    def _say_once(self, problem: str) -> None:
        """Log why keys cannot be read; the list is read again soon, and one line for each reason is enough."""
        if problem and problem != self._problem:
            self._log.error("cannot read the enrolled keys", reason=problem)
        self._problem = problem
