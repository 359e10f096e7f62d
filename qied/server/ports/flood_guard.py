"""Closes connections that never begin, or never finish, a message.

libzmq bounds a frame, not the number of frames in a message, and hands a message over only once it is complete: an
endless one fills the memory unseen. The kernel counts what each connection has sent, though. If the connections of one
user have sent more than a full queue of honest messages, without one of them having come out, the largest of them is
shut down; libzmq then frees the parts. So is a connection on which no message at all has come in its first seconds.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

import structlog
import zmq
import zmq.asyncio
from qied_client.protocol import limits
from zmq.utils.monitor import recv_monitor_message

from qied.server.clock import now_ms
from qied.server.log_budget import LogBudget

QUEUE_MESSAGES = 64
"""Messages of one connection that may wait in libzmq: more than the credit of all uploads that a user may have."""

UNFINISHED_BYTES = 2 * QUEUE_MESSAGES * limits.CHUNK_BYTES
"""Bytes of unfinished messages that the connections of one user may hold together."""
_FIRST_MESSAGE_BYTES = limits.FRAME_BYTES + 64 * 1024
"""Bytes that a connection may send before its first message has come out, which says whose it is."""
_FIRST_MESSAGE_MS = 20_000
"""Time for the handshake, which libzmq ends after 10 s, and for the first message."""
_INTERVAL_S = 0.05
_BYTES_RECEIVED_AT = 128
"""Offset of tcpi_bytes_received in Linux's struct tcp_info (since 4.1)."""


@dataclass
class _Watched:
    connection: socket.socket
    since_ms: int
    route: bytes = b""
    user: str = ""
    baseline: int = 0
    unfinished: int = 0
    delivered: bool = False


def can_guard() -> bool:
    """Whether this system reports how much a connection has received, as Linux does; tried on an own connection."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sender:
            receiver, _ = server.accept()
            with receiver:
                sender.sendall(b"x")
                receiver.recv(1)
                return _bytes_received(receiver) == 1
    except OSError:
        return False


class FloodGuard:
    """Watches the TCP connections of one ROUTER socket. It counts no bytes where ``can_guard`` is False (not Linux)."""

    def __init__(self, router: zmq.asyncio.Socket, unfinished_bytes: int = UNFINISHED_BYTES) -> None:
        self._log = structlog.get_logger(part="flood guard")
        self._budget = LogBudget()
        self._unfinished_bytes = unfinished_bytes
        self._watched: dict[int, _Watched] = {}
        self._descriptors: dict[bytes, int] = {}
        self._router = router
        self._monitor = router.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED)
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._patrol())]

    def delivered(self, descriptor: int, route: bytes, user: str) -> None:
        """A complete message of this connection has come out."""
        watched = self._watched.get(descriptor)
        if watched is not None:
            watched.delivered = True
            if watched.route != route:
                self._descriptors.pop(watched.route, None)
                watched.route, watched.user = route, user
                self._descriptors[route] = descriptor

    def end(self, route: bytes) -> None:
        """Close the TCP connection behind a route, if it is still there."""
        descriptor = self._descriptors.get(route)
        watched = None if descriptor is None else self._watched.get(descriptor)
        if descriptor is not None and watched is not None:
            self._shut(descriptor, watched)

    async def close(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for descriptor in list(self._watched):
            self._leave(descriptor)
        self._router.disable_monitor()
        self._monitor.close(linger=0)

    async def _follow(self) -> None:
        while True:
            event = await recv_monitor_message(self._monitor)
            descriptor = int(event["value"])
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._watch(descriptor)
            else:
                self._leave(descriptor)

    def _watch(self, descriptor: int) -> None:
        self._leave(descriptor)
        with suppress(OSError):
            self._watched[descriptor] = _Watched(socket.socket(fileno=os.dup(descriptor)), now_ms())

    def _leave(self, descriptor: int) -> None:
        watched = self._watched.pop(descriptor, None)
        if watched is not None:
            self._descriptors.pop(watched.route, None)
            watched.connection.close()

    async def _patrol(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_S)
            now, sums = now_ms(), Counter[str]()
            for descriptor, watched in list(self._watched.items()):
                self._count(watched)
                if not watched.route and not watched.delivered:
                    if now - watched.since_ms > _FIRST_MESSAGE_MS or watched.unfinished > _FIRST_MESSAGE_BYTES:
                        self._cut(descriptor, watched)
                elif watched.unfinished:
                    sums[watched.user] += watched.unfinished
            for user, unfinished in sums.items():
                if unfinished > self._unfinished_bytes:
                    self._cut_largest(user)

    def _count(self, watched: _Watched) -> None:
        received = _bytes_received(watched.connection)
        if received is None:
            watched.unfinished = 0
        elif watched.delivered:
            watched.baseline, watched.unfinished, watched.delivered = received, 0, False
        else:
            watched.unfinished = received - watched.baseline

    def _cut_largest(self, user: str) -> None:
        theirs = {descriptor: watched for descriptor, watched in self._watched.items() if watched.user == user}
        self._cut(*max(theirs.items(), key=lambda item: item[1].unfinished))

    def _cut(self, descriptor: int, watched: _Watched) -> None:
        left_out = self._budget.take(watched.user, now_ms())
        if left_out is not None:
            event = "closed a connection that does not finish its message"
            if not watched.route and watched.unfinished <= _FIRST_MESSAGE_BYTES:
                event = "closed a connection on which no message came"
            fields = {"user": watched.user, "unfinished_bytes": watched.unfinished, "left_out": left_out}
            self._log.warning(event, **fields)
        self._shut(descriptor, watched)

    def _shut(self, descriptor: int, watched: _Watched) -> None:
        with suppress(OSError):
            watched.connection.shutdown(socket.SHUT_RDWR)
        self._leave(descriptor)


def _bytes_received(connection: socket.socket) -> int | None:
    if not hasattr(socket, "TCP_INFO"):
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED_AT + 8)
    except OSError:
        return None
    if len(info) < _BYTES_RECEIVED_AT + 8:
        return None
    (received,) = struct.unpack_from("=Q", info, _BYTES_RECEIVED_AT)
    return int(received)
