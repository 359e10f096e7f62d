"""One encrypted ROUTER socket: complete, checked messages in, messages out, and who sent them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import structlog
import zmq
import zmq.asyncio
from qied_client.errors import QiedError
from qied_client.net.address import read_address
from qied_client.net.transport import keep_alive
from qied_client.protocol import limits
from qied_client.protocol.codec import Registry, decode, encode
from qied_client.protocol.messages import Message

from qied.server.access.authentication import Guest
from qied.server.ports.flood_guard import QUEUE_MESSAGES, UNFINISHED_BYTES, FloodGuard
from qied.server.ports.listening import cannot_listen

OnMessage = Callable[[bytes, Guest, Message | QiedError], None]
"""Called with the route of the connection, who is behind it, and the message or what was wrong."""

OnBytes = Callable[[int], None]
"""Called with the bytes of each message."""

_TURNS = 16
"""Messages taken before other work of the loop gets its turn."""


class RouterPort:
    """A port of the front. ``domain`` selects the keys that the authenticator accepts for it."""

    def __init__(
        self,
        context: zmq.asyncio.Context,
        domain: str,
        server_secret: bytes,
        known: Registry,
        on_message: OnMessage,
        on_gone: Callable[[bytes], None],
        unfinished_bytes: int = UNFINISHED_BYTES,
        *,
        on_sent: OnBytes = lambda size: None,
        on_received: OnBytes = lambda size: None,
    ) -> None:
        self._log = structlog.get_logger(part=f"{domain} port")
        self._known = known
        self._on_message = on_message
        self._on_gone = on_gone
        self._on_sent = on_sent
        self._on_received = on_received
        self._socket: zmq.asyncio.Socket = context.socket(zmq.ROUTER)
        self._configure(domain, server_secret)
        self._guard = FloodGuard(self._socket, unfinished_bytes)
        self._task: asyncio.Task[None] | None = None

    def bind(self, address: str) -> str:
        """Listen and return the address with its real port; raises ConfigError where that is not possible.

        A name is listened to at its IPv4 address if it has one.
        """
        failure: zmq.ZMQError | None = None
        for ipv6 in read_address(address, listening=True).families:
            self._socket.ipv6 = ipv6
            try:
                self._socket.bind(address)
                break
            except zmq.ZMQError as error:
                failure = failure or error
        else:
            assert failure is not None, "an address has a family"
            raise cannot_listen(address, failure.errno, str(failure)) from failure
        self._task = asyncio.create_task(self._pump(), name="port")
        return cast(bytes, self._socket.last_endpoint).decode()

    def send(self, route: bytes, message: Message, version: int = limits.VERSION) -> int:
        """Send in that version without waiting; returns its bytes, 0 where the connection is gone or does not read."""
        frames = [route, *encode(message, version)]
        sent = cast(asyncio.Future[object], self._socket.send_multipart(frames, flags=zmq.NOBLOCK, copy=True))
        error = sent.exception() if sent.done() else None
        if error is not None:
            self._log.debug("could not send", reason=str(error), type=message.TYPE.decode())
            self._on_gone(route)
            return 0
        size = sum(map(len, frames))
        self._on_sent(size)
        return size

    def end(self, route: bytes) -> None:
        """Close the TCP connection of a route at once, with everything that still waits to be sent."""
        self._guard.end(route)

    async def close(self) -> None:
        """Close the socket; messages just sent still leave."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._guard.close()
        self._socket.close(linger=500)

    def _configure(self, domain: str, server_secret: bytes) -> None:
        socket = self._socket
        socket.curve_server = True
        socket.curve_secretkey = server_secret
        socket.zap_domain = domain.encode()
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, limits.FRAME_BYTES)
        socket.setsockopt(zmq.RCVHWM, QUEUE_MESSAGES)
        socket.setsockopt(zmq.HANDSHAKE_IVL, 10_000)
        keep_alive(socket)

    async def _pump(self) -> None:
        taken = 0
        while True:
            frames = await self._socket.recv_multipart(copy=False)
            taken += 1
            if taken % _TURNS == 0:
                await asyncio.sleep(0)
            self._take(frames)

    def _take(self, frames: list[zmq.Frame]) -> None:
        route, rest = frames[0].bytes, frames[1:]
        if not rest:
            return
        self._on_received(sum(map(len, frames)))
        guest = Guest.of_user_id(cast(str, rest[0].get("User-Id")))
        self._guard.delivered(rest[0].get(zmq.SRCFD), route, guest.name)
        try:
            parts = [frame.bytes for frame in rest[:2]] + [frame.buffer for frame in rest[2:4]]
            message: Message | QiedError = decode(parts, self._known)
        except QiedError as error:
            message = error
        try:
            self._on_message(route, guest, message)
        except Exception:  # noqa: BLE001 - whatever one message does, the port must not fall deaf for all others
            self._log.exception("a message failed because of a bug, continuing with the next", user=guest.name)
