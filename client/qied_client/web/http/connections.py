"""Connections within their limits: how many there are, how long a request may take, and who does not read."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import sys
from collections import Counter
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from qied_client.web.errors import ApiError

_CONNECTIONS: Final = 2000
_OTHER_FILES: Final = 200
"""Open files that are no connections: the listener, the sockets of the daemon, forms on their way."""
_HEADER_S: Final = 10.0
"""Seconds that the head of a request may take, and the rest of a body whose request was answered."""
_READER_S: Final = 30.0
"""Seconds in which a client has to take something of its answer."""
_SLOWEST: Final = 1024
"""Bytes a second below which a client takes its answer too slowly."""


class Places:
    """Places for ``most`` connections. One address has at most half of them, so that others always get in."""

    def __init__(self, most: int = _CONNECTIONS) -> None:
        self._most = most
        self._taken: Counter[str] = Counter()

    def take(self, address: str) -> bool:
        """Take a place for a connection from this address; False if it gets none."""
        one = _network(address)
        if self._taken.total() >= self._most or self._taken[one] >= self._most // 2:
            return False
        self._taken[one] += 1
        return True

    def leave(self, address: str) -> None:
        """Give a place back."""
        one = _network(address)
        self._taken[one] -= 1
        if not self._taken[one]:
            del self._taken[one]


def usual_places() -> Places:
    """As many places as this process may have open files for; its limit is raised towards that (POSIX)."""
    if sys.platform == "win32":
        return Places()
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _CONNECTIONS + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return Places() if soft == resource.RLIM_INFINITY else Places(max(16, min(_CONNECTIONS, soft - _OTHER_FILES)))


class ReaderWatch:
    """Ends a connection whose client takes less than ``_SLOWEST`` of what waits for it, from now until ``stop``."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._unread = transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(_READER_S, self._look)

    def stop(self) -> None:
        """The client has read, or is gone."""
        self._timer.cancel()

    def _look(self) -> None:
        left = self._transport.get_write_buffer_size()
        if left > self._unread - _READER_S * _SLOWEST:
            self._transport.abort()
            return
        self._unread = left
        self._timer = asyncio.get_running_loop().call_later(_READER_S, self._look)


class PunctualProtocol(H11Protocol):
    """uvicorn's protocol, which gives up those who keep a place without using it.

    They send no whole request, go on sending a body that was answered, or do not read their answer. ``places`` are
    shared by the connections of one server.
    """

    places: Places
    _placed: str | None = None
    _due: asyncio.TimerHandle | None = None
    _reading: ReaderWatch | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        if not self.places.take(address):
            self.transport = transport
            transport.write(_FULL)
            transport.close()
            return
        self._placed = address
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        if self._placed is not None and not self.transport.is_closing():
            super().data_received(data)
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._placed is None:
            return
        self.places.leave(self._placed)
        self._placed = None
        self._stop_watches()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over to the protocol of WebSockets; its place is given back when that loses it."""
        super().handle_websocket_upgrade(event)
        protocol: Any = self.transport.get_protocol()
        lost = protocol.connection_lost

        def left(exc: Exception | None) -> None:
            if self._placed is not None:
                self.places.leave(self._placed)
                self._placed = None
            lost(exc)

        protocol.connection_lost = left
        self._stop_watches()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and (self.conn.their_state is not h11.IDLE or self.conn.trailing_data[0]):
            self._watch()

    def timeout_keep_alive_handler(self) -> None:
        self._leave()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading = ReaderWatch(self.transport)

    def resume_writing(self) -> None:
        if self._reading is not None:
            self._reading.stop()
            self._reading = None
        super().resume_writing()

    def _watch(self) -> None:
        """Have one clock run while a head is awaited, or the rest of a body that was answered."""
        answered = self.cycle is not None and self.cycle.response_complete
        waits = self.conn.their_state is h11.IDLE or (self.conn.their_state is h11.SEND_BODY and answered)
        if not waits and self._due is not None:
            self._due.cancel()
            self._due = None
        elif waits and self._due is None:
            self._due = self.loop.call_later(_HEADER_S, self._leave)

    def _stop_watches(self) -> None:
        if self._due is not None:
            self._due.cancel()
        if self._reading is not None:
            self._reading.stop()

    def _leave(self) -> None:
        """End the connection; what its client has not read until now is not waited for."""
        self._due = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()


def _network(address: str) -> str:
    """What counts as one address: a network of IPv6 gives each of its users 2**64 of them."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))


def _full() -> bytes:
    error = ApiError(503, "server_error", "too_many_connections", "Too many connections. Close some, or come back.")
    body = json.dumps(error.body()).encode()
    headers = {
        **error.headers(),
        "Content-Type": "application/json",
        "Content-Length": len(body),
        "Connection": "close",
    }
    lines = ["HTTP/1.1 503 Service Unavailable", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


_FULL: Final = _full()
