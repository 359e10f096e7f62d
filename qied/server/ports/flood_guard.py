"""Closes connections that never finish a message.

libzmq bounds a frame, not the number of frames in a message, and hands a message over only once it is complete: an
endless one fills the memory unseen. The kernel counts what each connection has sent, though. One that has sent more
than a full queue of honest messages, without one of them having come out, is shut down; libzmq then frees the parts.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

import structlog
import zmq
import zmq.asyncio
from qied_client.protocol import limits
from zmq.utils.monitor import recv_monitor_message

QUEUE_MESSAGES = 64
"""Messages of one connection that may wait in libzmq: more than the credit of all uploads that a user may have."""

_UNFINISHED_BYTES = 2 * QUEUE_MESSAGES * limits.CHUNK_BYTES
_INTERVAL_S = 0.05
_BYTES_RECEIVED_AT = 128
"""Offset of tcpi_bytes_received in Linux's struct tcp_info (since 4.1)."""


@dataclass
class _Watched:
    connection: socket.socket
    baseline: int = 0
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
    """Watches the TCP connections of one ROUTER socket. Does nothing where ``can_guard`` is False (not Linux)."""

    def __init__(self, router: zmq.asyncio.Socket) -> None:
        self._log = structlog.get_logger(part="flood guard")
        self._watched: dict[int, _Watched] = {}
        self._router = router
        self._monitor = router.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED)
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._patrol())]

    def delivered(self, descriptor: int) -> None:
        """A complete message of this connection has come out."""
        watched = self._watched.get(descriptor)
        if watched is not None:
            watched.delivered = True

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
            self._watched[descriptor] = _Watched(socket.socket(fileno=os.dup(descriptor)))

    def _leave(self, descriptor: int) -> None:
        watched = self._watched.pop(descriptor, None)
        if watched is not None:
            watched.connection.close()

    async def _patrol(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_S)
            for descriptor, watched in list(self._watched.items()):
                received = _bytes_received(watched.connection)
                if received is None:
                    self._leave(descriptor)
                elif watched.delivered:
                    watched.baseline, watched.delivered = received, False
                elif received - watched.baseline > _UNFINISHED_BYTES:
                    self._cut(descriptor, watched, received - watched.baseline)

    def _cut(self, descriptor: int, watched: _Watched, unfinished: int) -> None:
        self._log.warning("closed a connection that does not finish its message", unfinished_bytes=unfinished)
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
