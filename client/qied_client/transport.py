"""The encrypted socket under a connection: one DEALER with CURVE, and what its monitor tells about the handshake."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import zmq
import zmq.asyncio
from zmq.utils.monitor import recv_monitor_message

from qied_client.errors import CredentialsMissing, DaemonUnreachable, HandshakeRefused, ProtocolError, UnreachableError
from qied_client.protocol import limits

_WATCHED = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)
_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
)


@dataclass(frozen=True)
class Endpoint:
    """Where a daemon listens and the CURVE keys (Z85 text) to talk to it."""

    address: str
    server_key: str
    public_key: str
    secret_key: str


class Transport:
    """One attempt to talk to the daemon; a new attempt takes a new transport."""

    def __init__(self, context: zmq.asyncio.Context, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._socket: zmq.asyncio.Socket = context.socket(zmq.DEALER)
        self._socket.linger = 500
        self._socket.setsockopt(zmq.MAXMSGSIZE, limits.FRAME_BYTES)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 100)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, limits.HEARTBEAT_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, limits.SILENCE_MS)
        self._monitor = self._socket.get_monitor_socket(_WATCHED)
        self._set_keys(endpoint)
        try:
            self._socket.connect(endpoint.address)
        except zmq.ZMQError as error:
            self.close()
            raise DaemonUnreachable(
                f"{endpoint.address!r} is no address to connect to: {error}.", "Give one such as tcp://host:7447."
            ) from error

    def _set_keys(self, endpoint: Endpoint) -> None:
        try:
            self._socket.curve_serverkey = endpoint.server_key.encode()
            self._socket.curve_publickey = endpoint.public_key.encode()
            self._socket.curve_secretkey = endpoint.secret_key.encode()
        except zmq.ZMQError as error:
            self.close()
            raise CredentialsMissing(
                "A key of this credential is no CURVE key.", "A key is 40 characters of Z85; read it from a key file."
            ) from error

    async def watch_handshake(self) -> UnreachableError:
        """Wait until this transport turns out to be useless, and return why.

        A daemon that is not there is known at the first failed attempt; a TCP connection that ends
        before the encrypted handshake did means a wrong key on one of the two sides.
        """
        connected = shaken = False
        while True:
            event = (await recv_monitor_message(self._monitor))["event"]
            if event == zmq.EVENT_CONNECTED:
                connected = True
            elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                shaken = True
            elif event in _FAILED or (event == zmq.EVENT_DISCONNECTED and connected and not shaken):
                return self._refused()
            elif event == zmq.EVENT_DISCONNECTED:
                return DaemonUnreachable("The connection to the daemon was lost.", "Is the daemon running?")
            elif event == zmq.EVENT_CONNECT_RETRIED and not connected:
                return self._unreachable()

    async def receive(self) -> Sequence[bytes]:
        """Wait for the frames of the next message."""
        frames: list[bytes] = await self._socket.recv_multipart()
        return frames

    def send(self, frames: Sequence[bytes | memoryview]) -> None:
        """Send without waiting; raises ProtocolError where the other side has stopped reading."""
        sent = cast(asyncio.Future[object], self._socket.send_multipart(frames, flags=zmq.NOBLOCK, copy=True))
        if sent.done() and sent.exception() is not None:
            raise ProtocolError("The daemon has stopped reading from this connection.")

    def close(self) -> None:
        """Close the socket; what was sent just before still leaves."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close()

    def _refused(self) -> HandshakeRefused:
        return HandshakeRefused(
            f"The daemon at {self._endpoint.address} refused the encrypted handshake.",
            "Either this key is not enrolled ('qied keys add' on the daemon's machine), or the key file is for "
            "another daemon.",
        )

    def _unreachable(self) -> DaemonUnreachable:
        return DaemonUnreachable(
            f"Nothing answers at {self._endpoint.address}.", "Start the daemon with 'qied serve', or check the address."
        )
