"""The port for clients: greets connections, tracks which are alive, and passes each message to its handler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
import zmq.asyncio
from qied_client.awake_time import AwakeTime
from qied_client.errors import ProtocolError, QiedError, VersionMismatch
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.roles import FROM_CLIENT

from qied.server.access.authentication import Guest
from qied.server.blobs.transfers import BlobTransfers
from qied.server.clock import now_ms
from qied.server.jobs import JobBook
from qied.server.ports.peer import Peer
from qied.server.ports.router_port import RouterPort
from qied.server.requests import Requests

_REAP_S = 0.5
_NOT_ENROLLED = "this key is no longer enrolled"


class ClientPort:
    """Connections of clients.

    ``welcome`` makes the greeting for the id of a HELLO and a user, ``is_enrolled`` says whether somebody still is.
    """

    def __init__(
        self,
        context: zmq.asyncio.Context,
        server_secret: bytes,
        transfers: BlobTransfers,
        requests: Requests,
        jobs: JobBook,
        welcome: Callable[[int, str], m.Welcome],
        is_enrolled: Callable[[Guest], bool],
        requests_per_client: int,
    ) -> None:
        self._log = structlog.get_logger(part="clients")
        self._transfers = transfers
        self._requests = requests
        self._jobs = jobs
        self._welcome = welcome
        self._is_enrolled = is_enrolled
        self._requests_per_client = requests_per_client
        self._peers: dict[bytes, Peer] = {}
        self._awake = AwakeTime(round(2000 * _REAP_S), now_ms())
        self._port = RouterPort(context, "client", server_secret, FROM_CLIENT, self._on_message, self._on_gone)
        self._reaper: asyncio.Task[None] | None = None

    def bind(self, address: str) -> str:
        """Listen; returns the address with its real port. Raises ConfigError."""
        bound = self._port.bind(address)
        self._reaper = asyncio.create_task(self._reap(), name="reaper")
        return bound

    @property
    def connected(self) -> int:
        """Connections that have said hello."""
        return sum(peer.ready for peer in self._peers.values())

    async def quiet(self, seconds: float) -> None:
        """Wait until no client has had a request or transfer under way for so long."""
        loop = asyncio.get_running_loop()
        busy_at = loop.time()
        while loop.time() - busy_at < seconds:
            if any(peer.transfers or peer.tasks for peer in self._peers.values()):
                busy_at = loop.time()
            await asyncio.sleep(seconds / 10)

    def say_goodbye(self, reason: str) -> None:
        """Say goodbye to all clients: nothing more will come over these connections."""
        for peer in list(self._peers.values()):
            peer.send(m.Bye(reason))

    async def close(self) -> None:
        if self._reaper is not None:
            self._reaper.cancel()
            await asyncio.gather(self._reaper, return_exceptions=True)
        for route in list(self._peers):
            self._on_gone(route)
        await self._port.close()

    def _on_gone(self, route: bytes) -> None:
        peer = self._peers.pop(route, None)
        if peer is not None:
            peer.gone()
            self._jobs.unfollow(peer)

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(_REAP_S)
            limit = self._awake.tick(now_ms()) - limits.SILENCE_MS
            for route, peer in list(self._peers.items()):
                if not self._is_enrolled(peer.guest):
                    self._dismiss(route, _NOT_ENROLLED)
                elif peer.heard_ms < limit:
                    self._log.info("a client fell silent", user=peer.user)
                    self._dismiss(route, "nothing was received from you")

    def _dismiss(self, route: bytes, reason: str) -> None:
        """End a connection and say so: a client that is alive after all reconnects."""
        self._port.send(route, m.Bye(reason))
        self._on_gone(route)

    def _on_message(self, route: bytes, guest: Guest, message: m.Message | QiedError) -> None:
        if not self._is_enrolled(guest):
            self._dismiss(route, _NOT_ENROLLED)
            return
        peer = self._peers.get(route)
        if peer is None:
            peer = self._peers[route] = Peer(
                route,
                guest,
                lambda answer: self._port.send(route, answer),
                self._awake.at(now_ms()),
                most_requests=self._requests_per_client,
            )
        peer.heard_ms = self._awake.at(now_ms())
        if isinstance(message, QiedError):
            identifier = message.details.get("id")
            self._log.info("refused a message", user=guest.name, reason=str(message))
            peer.refuse(message, identifier if isinstance(identifier, int) else None)
        elif isinstance(message, m.Hello):
            self._greet(peer, message)
        elif not peer.ready:
            # It may have been taken for gone while it was busy: its requests must be asked again, not fail.
            peer.refuse(ProtocolError("HELLO comes first.", "Reconnect."), None)
            self._dismiss(route, "HELLO comes first")
        else:
            self._dispatch(peer, message)

    def _greet(self, peer: Peer, hello: m.Hello) -> None:
        if not hello.min_version <= limits.VERSION <= hello.max_version:
            peer.refuse(
                VersionMismatch(
                    f"This daemon speaks protocol {limits.MIN_VERSION} to {limits.VERSION}, "
                    f"the client {hello.min_version} to {hello.max_version}.",
                    "Install matching versions of qied and qied-client.",
                ),
                hello.id,
            )
            return
        peer.ready = True
        peer.send(self._welcome(hello.id, peer.user))

    def _dispatch(self, peer: Peer, message: m.Message) -> None:
        if self._transfers.handle(peer, message):
            return
        match message:
            case m.Bye():
                self._on_gone(peer.route)
            case m.Pong():
                pass
            case _:
                self._requests.handle(peer, message)
