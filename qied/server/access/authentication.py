"""Who may connect: the ZAP handler that libzmq asks, and a check that it refuses a key.

libzmq lets every client in if no handler is bound at all. Ours is bound before the first port and closed after the
last; a handler that is bound but does not answer keeps every client out, so a bug here fails closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self, TypeAlias

import structlog
import zmq
import zmq.asyncio
import zmq.utils.z85
from qied_client.errors import HandshakeRefused, SetupError, UnreachableError, UnsafeAuthentication
from qied_client.net.address import read_address
from qied_client.net.transport import Endpoint, Transport, new_context

from qied.server.clock import now_ms
from qied.server.log_budget import LogBudget

_ZAP = "inproc://zeromq.zap.01"
_REQUEST_FRAMES = 7

Lookup = Callable[[str, bytes], str | None]
"""From the socket's domain and a client's public key (Z85) to the name it is enrolled under, or None."""
KeyPair: TypeAlias = tuple[bytes, bytes]
"""A public key and its secret (Z85)."""


@dataclass(frozen=True)
class Guest:
    """The client behind a connection: the name of the enrolment, and the public key (Z85) that proved it."""

    name: str
    key: bytes

    def to_user_id(self) -> bytes:
        """The user id that libzmq stores for the connection and returns with each message."""
        return self.name.encode() + b" " + self.key

    @classmethod
    def of_user_id(cls, user_id: str) -> Self:
        """Read it back."""
        name, _, key = user_id.partition(" ")
        return cls(name, key.encode())


class Authenticator:
    """Answers libzmq's question for each new connection: does an enrolled key stand behind it?"""

    def __init__(self, context: zmq.asyncio.Context, lookup: Lookup) -> None:
        self._lookup = lookup
        self._expected: frozenset[bytes] = frozenset()
        self._log = structlog.get_logger(part="authentication")
        self._budget = LogBudget()
        self._socket: zmq.asyncio.Socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(_ZAP)
        self._task = asyncio.create_task(self._serve(), name="authentication")

    @contextmanager
    def expecting(self, *keys: bytes) -> Iterator[None]:
        """Inside, the refusal of these keys (Z85) is expected and not logged as a warning."""
        self._expected = frozenset(keys)
        try:
            yield
        finally:
            self._expected = frozenset()

    async def close(self) -> None:
        """Stop answering; only after every port is closed."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._socket.close()

    async def _serve(self) -> None:
        while True:
            frames = await self._socket.recv_multipart()
            try:
                answer = self._answer(frames)
            except Exception:  # noqa: BLE001 - a handler that has ended would keep everybody out for good
                self._log.exception("checking a key failed, refusing it")
                answer = [b"1.0", frames[1], b"500", b"internal error", b"", b""]
            await self._socket.send_multipart(answer)

    def _answer(self, frames: list[bytes]) -> list[bytes]:
        if len(frames) != _REQUEST_FRAMES or frames[0] != b"1.0" or frames[5] != b"CURVE" or len(frames[6]) != 32:
            return [b"1.0", frames[1] if len(frames) > 1 else b"", b"400", b"CURVE only", b"", b""]
        _, sequence, domain, address, _, _, key = frames
        z85 = zmq.utils.z85.encode(key)
        name = self._lookup(domain.decode("ascii", "replace"), z85)
        if name is None:
            if z85 not in self._expected and (left_out := self._budget.take("", now_ms())) is not None:
                fields = {"address": address.decode(), "key": z85.decode(), "left_out": left_out}
                self._log.warning("refused a key that is not enrolled", **fields)
            return [b"1.0", sequence, b"400", b"not enrolled", b"", b""]
        return [b"1.0", sequence, b"200", b"OK", Guest(name, z85).to_user_id(), b""]


async def prove_strangers_are_refused(address: str, server_key: bytes, timeout_s: float = 10.0) -> None:
    """Connect with a key pair made just now and see that it is refused; raises UnsafeAuthentication otherwise.

    Also raises SocketUnavailable if there is no socket to try it with.
    """
    await prove_a_key_is_refused(address, server_key, zmq.curve_keypair(), "A key that is not enrolled", timeout_s)


async def prove_a_key_is_refused(address: str, server_key: bytes, pair: KeyPair, whose: str, timeout_s: float) -> None:
    """Connect with a key pair and see that it is refused.

    Raises UnsafeAuthentication, which says ``whose``, where it was not, and SetupError where no connection could be
    made to find out.
    """
    public, secret = pair
    context = new_context()
    endpoint = Endpoint(address, server_key.decode(), public.decode(), secret.decode())
    try:
        transport = Transport(context, endpoint, ipv6=read_address(address).families[0])
        try:
            verdict = await _verdict(transport, timeout_s)
            let_in = transport.let_in.is_set()
        finally:
            transport.close()
    finally:
        context.destroy(linger=0)
    if let_in:
        raise UnsafeAuthentication(
            f"{whose} was not refused at {address}.",
            "Do not serve like this. Check that pyzmq is built with CURVE, and report it.",
        )
    if not isinstance(verdict, HandshakeRefused):
        seen = f"there was no answer for {timeout_s:g} s." if verdict is None else verdict.message
        raise SetupError(
            f"Whether unknown keys are refused at {address} could not be checked: {seen}",
            "See whether a firewall keeps this machine from its own address, or choose another daemon.listen.",
        )


async def _verdict(transport: Transport, timeout_s: float) -> UnreachableError | None:
    """Why the transport is useless; None where it was let in, or where nothing is known after ``timeout_s``."""
    useless = asyncio.ensure_future(transport.watch_handshake())
    let_in = asyncio.ensure_future(transport.let_in.wait())
    try:
        await asyncio.wait([useless, let_in], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return useless.result() if useless.done() else None
    finally:
        for task in (useless, let_in):
            task.cancel()
        await asyncio.gather(useless, let_in, return_exceptions=True)
