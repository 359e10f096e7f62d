"""The port for clients: greets connections, tracks which are alive, and passes each message to its handler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog
import zmq.asyncio
from qied_client.awake_time import AwakeTime
from qied_client.errors import NotPermitted, ProtocolError, QiedError, VersionMismatch
from qied_client.protocol import limits, timing
from qied_client.protocol import messages as m
from qied_client.protocol.roles import FROM_CLIENT

from qied.config import LimitsConfig
from qied.server.access.authentication import Guest
from qied.server.access.guest_list import GuestList
from qied.server.blobs.transfers import BlobTransfers
from qied.server.clock import now_ms
from qied.server.jobs import JobBook
from qied.server.log_budget import LogBudget
from qied.server.ports.account import Account, Accounts, over_limit
from qied.server.ports.backlog import ASK_BYTES
from qied.server.ports.flood_guard import UNFINISHED_BYTES
from qied.server.ports.peer import Peer
from qied.server.ports.router_port import RouterPort
from qied.server.requests.dispatching import Requests

_REAP_S = 0.5
_HELLO_MS = 10_000
"""Time to say HELLO, from the first message on."""
_READING_MS = 120_000
"""Time to read what waits: a PONG proves it, see ports.backlog."""
_GOODBYE_MS = 1_500
"""Time between BYE and the end of the TCP connection; a HELLO meanwhile saves it."""
_NOT_ENROLLED = "this key is no longer enrolled"


class ClientPort:
    """Connections of clients.

    ``welcome`` makes the greeting for the id of a HELLO and a user, ``guests`` know who is enrolled. ``on_refusal``
    gets the code of each error that is answered.
    """

    def __init__(
        self,
        context: zmq.asyncio.Context,
        server_secret: bytes,
        transfers: BlobTransfers,
        requests: Requests,
        jobs: JobBook,
        welcome: Callable[[int, str], m.Welcome],
        guests: GuestList,
        quotas: LimitsConfig,
        on_refusal: Callable[[str], None],
    ) -> None:
        self._log = structlog.get_logger(part="clients")
        self._budget = LogBudget()
        self._transfers = transfers
        self._requests = requests
        self._jobs = jobs
        self._welcome = welcome
        self._guests = guests
        self._quotas = quotas
        self._on_refusal = on_refusal
        self._accounts = Accounts(quotas)
        self._peers: dict[bytes, Peer] = {}
        self._awake = AwakeTime(round(2000 * _REAP_S), now_ms())
        self._leaving: dict[bytes, int] = {}
        in_flight = 2 * quotas.uploads_per_user * limits.CREDIT * limits.CHUNK_BYTES
        self._port = RouterPort(
            context,
            "client",
            server_secret,
            FROM_CLIENT,
            self._on_message,
            self._on_gone,
            max(UNFINISHED_BYTES, in_flight),
        )
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

    @property
    def users(self) -> frozenset[str]:
        """Users with a connection that has said hello."""
        return frozenset(peer.user for peer in self._peers.values() if peer.ready)

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
        for peer in self._peers.values():
            peer.gone()
        self._peers.clear()
        await self._port.close()

    def _send(self, peer: Peer, message: m.Message) -> bool:
        if isinstance(message, m.Failure):
            self._on_refusal(message.code)
        size = self._port.send(peer.route, message, peer.version)
        if not size:
            return False
        question = peer.backlog.sent(size, self._now())
        if question is not None:
            self._port.send(peer.route, m.Ping(question))
        if peer.backlog.overflows:
            self._dismiss(peer, "you do not read what is sent to you")
            return False
        return True

    def _on_gone(self, route: bytes) -> None:
        peer = self._peers.pop(route, None)
        if peer is None:
            return
        unread = peer.backlog.unread
        peer.account.connections -= 1
        peer.gone()
        self._jobs.unfollow(peer)
        if unread > ASK_BYTES:
            self._port.end(route)  # what waits for it takes memory, which is not counted from now on
        else:
            self._leaving.setdefault(route, self._now() + _GOODBYE_MS)

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(_REAP_S)
            now = self._awake.tick(now_ms())
            for peer in list(self._peers.values()):
                reason = self._why_it_ends(peer, now)
                if reason is not None:
                    self._dismiss(peer, reason)
                elif (question := peer.backlog.wanted(now)) is not None:
                    self._port.send(peer.route, m.Ping(question))
            for route, due_ms in list(self._leaving.items()):
                if now >= due_ms:
                    del self._leaving[route]
                    returned = self._peers.get(route)
                    if returned is None or not returned.ready:
                        self._port.end(route)

    def _now(self) -> int:
        """Milliseconds in which this program was itself run; see ``qied_client.awake_time``."""
        return self._awake.at(now_ms())

    def _why_it_ends(self, peer: Peer, now: int) -> str | None:
        if not self._guests.is_enrolled(peer.guest):
            return _NOT_ENROLLED
        if peer.speaks_for is not None and not self._guests.may_speak_for(peer.guest, peer.speaks_for):
            return f"you may not speak for {peer.speaks_for!r} any more"
        if peer.heard_ms < now - timing.SILENCE_MS:
            return "nothing was received from you"
        if not peer.ready and peer.since_ms < now - _HELLO_MS:
            return "you did not say HELLO"
        if peer.backlog.asked_ms is not None and peer.backlog.asked_ms < now - _READING_MS:
            return "you do not read what is sent to you"
        return None

    def _dismiss(self, peer: Peer, reason: str) -> None:
        """End a connection and say so: a client that is alive after all reconnects."""
        left_out = self._budget.take(peer.user, now_ms())
        if left_out is not None:
            self._log.info("ended a connection", user=peer.user, reason=reason, left_out=left_out)
        self._port.send(peer.route, m.Bye(reason))
        self._on_gone(peer.route)

    def _on_message(self, route: bytes, guest: Guest, message: m.Message | QiedError) -> None:
        peer = self._peers.get(route)
        if not self._guests.is_enrolled(guest):
            self._dismiss(peer or self._admit(route, guest), _NOT_ENROLLED)
            return
        if peer is None:
            account = self._accounts.of(guest.name)
            if account.connections >= self._quotas.connections_per_user:
                self._turn_away(route, account, message)
                return
            peer = self._admit(route, guest)
        peer.heard_ms = self._now()
        if isinstance(message, QiedError):
            self._refuse(peer, message)
        elif isinstance(message, m.Hello):
            self._greet(peer, message)
        elif not peer.ready:
            # It may have been taken for gone while it was busy: its requests must be asked again, not fail.
            peer.refuse(ProtocolError("HELLO comes first.", "Reconnect."), None)
            self._dismiss(peer, "HELLO comes first")
        else:
            self._dispatch(peer, message)

    def _admit(self, route: bytes, guest: Guest) -> Peer:
        account = self._accounts.of(guest.name)
        peer = self._peers[route] = Peer(
            route, guest, lambda answer: self._send(peer, answer), self._now(), account=account
        )
        account.connections += 1
        return peer

    def _turn_away(self, route: bytes, account: Account, message: m.Message | QiedError) -> None:
        """Refuse a connection to a user who has as many as may be."""
        error = over_limit(
            "limits.connections_per_user", account.connections, "connections", "Close some of them, then connect again."
        )
        self._on_refusal(error.code)
        self._port.send(route, m.Failure.of(error, message.id if isinstance(message, m.Hello) else None))
        self._leaving.setdefault(route, self._now() + _GOODBYE_MS)
        left_out = self._budget.take(account.user, now_ms())
        if left_out is not None:
            self._log.info("refused a connection", user=account.user, reason=str(error), left_out=left_out)

    def _refuse(self, peer: Peer, error: QiedError) -> None:
        """Answer what is not a message of the protocol; of many such messages a few are logged."""
        identifier = error.details.get("id")
        left_out = self._budget.take(peer.user, now_ms())
        if left_out is not None:
            self._log.info("refused a message", user=peer.user, reason=str(error), left_out=left_out)
        peer.refuse(error, identifier if isinstance(identifier, int) else None)

    def _greet(self, peer: Peer, hello: m.Hello) -> None:
        version = min(limits.VERSION, hello.max_version)
        if version < max(limits.MIN_VERSION, hello.min_version):
            peer.refuse(
                VersionMismatch(
                    f"This daemon speaks protocol {limits.MIN_VERSION} to {limits.VERSION}, "
                    f"the client {hello.min_version} to {hello.max_version}.",
                    "Install matching versions of qied and qied-client.",
                ),
                hello.id,
            )
            return
        if hello.user not in (None, peer.user) and not self._speaks_for(peer, hello, hello.user):
            return
        peer.ready, peer.version = True, version
        peer.send(replace(self._welcome(hello.id, peer.user), version=version))

    def _speaks_for(self, peer: Peer, hello: m.Hello, user: str | None) -> bool:
        """Let a gateway speak for a user, or refuse it and say why."""
        if user is None or peer.ready or not self._guests.may_speak_for(peer.guest, user):
            refusal: QiedError = NotPermitted(
                f"{peer.guest.name!r} may not speak for {user!r}.",
                "Enrol both: the user ('qied keys add NAME'), and this program with 'qied keys add NAME --gateway'.",
            )
        elif (account := self._accounts.of(user)).connections >= self._quotas.connections_per_user:
            remedy = "Close some of them, then connect again."
            refusal = over_limit("limits.connections_per_user", account.connections, "connections", remedy)
        else:
            peer.speak_for(user, account)
            return True
        peer.refuse(refusal, hello.id)
        return False

    def _dispatch(self, peer: Peer, message: m.Message) -> None:
        if self._transfers.handle(peer, message):
            return
        match message:
            case m.Bye():
                self._on_gone(peer.route)
            case m.Pong(nonce):
                peer.backlog.answered(nonce)
            case _:
                self._requests.handle(peer, message)
