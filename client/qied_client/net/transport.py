"""The encrypted socket under a connection: one DEALER with CURVE, and what its monitor reports about the handshake."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import cast

import zmq
import zmq.asyncio
from zmq.utils.monitor import recv_monitor_message

from qied_client.errors import (
    CredentialsMissing,
    DaemonUnreachable,
    HandshakeRefused,
    InvalidRequest,
    ProtocolError,
    SocketUnavailable,
    UnreachableError,
)
from qied_client.installing import pip_install
from qied_client.net.address import read_address
from qied_client.net.descriptors import FOR_A_CLIENT, FOR_A_SOCKET, require_descriptors
from qied_client.net.time_limit import time_limit
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


REACHING = (
    "Is it running ('qied serve' on its machine)? Is this its address (it is in the key file)? From another machine: "
    "does it listen on the network (daemon.listen), and does its firewall let the port in?"
)
"""Remedy where a daemon cannot be reached."""
_STARTING = "Start it here: qied serve. If it runs, it listens elsewhere: the address is in the key file."
_NAMING = "Check the name in the key file. Is this machine in its network (VPN, Wi-Fi)? Its number works as well."
_HERE = ("127.0.0.1", "::1", "localhost")
_NAME_S = 2.0


@dataclass(frozen=True)
class Endpoint:
    """Where a daemon listens and the CURVE keys (Z85 text) to talk to it."""

    address: str
    server_key: str
    public_key: str
    secret_key: str


def keep_alive(socket: zmq.asyncio.Socket) -> None:
    """Have the system find out that the other machine is gone.

    ZMTP heartbeats stay off: libzmq (4.3.5) aborts the process if their timer fires on a connection that was reset
    while its queue was full. The protocol has its own PING.
    """
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 30)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 10)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)


def require_curve() -> None:
    """See that libzmq can encrypt; raises SocketUnavailable."""
    if not zmq.has("curve"):
        raise SocketUnavailable(
            f"libzmq {zmq.zmq_version()} in this Python is built without CURVE, which qied needs for encryption.",
            f"Install the wheel of pyzmq: {pip_install('--force-reinstall', '--only-binary', ':all:', 'pyzmq')}",
        )


def new_context() -> zmq.asyncio.Context:
    """The context that transports are made in; raises SocketUnavailable. End it with ``destroy(linger=0)``.

    ``term`` alone would wait for ever for a socket that is still open.
    """
    require_descriptors(FOR_A_CLIENT)
    with _no_socket():
        return zmq.asyncio.Context()


@contextmanager
def _no_socket() -> Iterator[None]:
    """What the system, libzmq or the event loop has against a socket, as a typed error."""
    try:
        yield
    except (zmq.ZMQError, OSError, RuntimeError) as error:
        said = "its event loop has no add_reader" if isinstance(error, NotImplementedError) else str(error)
        raise SocketUnavailable(
            f"This program cannot use a socket to the daemon: {said.rstrip('.')}.",
            "Close files or sockets that it keeps open, raise its limits (ulimit -n), or start it again.",
        ) from error


class Transport:
    """One attempt to talk to the daemon, over IPv4 or IPv6; a new attempt takes a new transport.

    Raises InvalidRequest for an invalid address, CredentialsMissing for invalid keys, and
    SocketUnavailable if no socket can be opened; nothing is left open then. libzmq tries one address of a name: the
    first of IPv6 if there is one, so an IPv4 socket is tried for it as well (``Address.families``).
    """

    def __init__(self, context: zmq.asyncio.Context, endpoint: Endpoint, *, ipv6: bool = False) -> None:
        self._endpoint = endpoint
        self._ipv6 = ipv6
        self.let_in = asyncio.Event()
        self._monitor: zmq.asyncio.Socket | None = None
        require_descriptors(FOR_A_SOCKET)
        with _no_socket():
            self._socket: zmq.asyncio.Socket = context.socket(zmq.DEALER)
        try:
            with _no_socket():
                self._configure()
            self._set_keys()
            self._connect()
        except BaseException:
            self.close()
            raise

    def _configure(self) -> None:
        self._socket.linger = 500
        self._socket.ipv6 = self._ipv6
        self._socket.setsockopt(zmq.MAXMSGSIZE, limits.FRAME_BYTES)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 100)
        keep_alive(self._socket)
        self._monitor = self._socket.get_monitor_socket(_WATCHED)
        _see_that_it_is_watched(self._socket)

    def _set_keys(self) -> None:
        try:
            self._socket.curve_serverkey = self._endpoint.server_key.encode()
            self._socket.curve_publickey = self._endpoint.public_key.encode()
            self._socket.curve_secretkey = self._endpoint.secret_key.encode()
        except zmq.ZMQError as error:
            raise CredentialsMissing(
                "A key of this credential is not a CURVE key.",
                "A key is 40 characters of Z85; read it from a key file.",
            ) from error

    def _connect(self) -> None:
        try:
            read_address(self._endpoint.address)
        except ValueError as error:
            raise InvalidRequest(f"{error}.", "Correct the address.", field="address") from error
        try:
            self._socket.connect(self._endpoint.address)
        except zmq.ZMQError as error:
            raise DaemonUnreachable(f"Cannot connect to {self._endpoint.address}: {error}.", REACHING) from error

    async def watch_handshake(self) -> UnreachableError:
        """Wait until this transport turns out to be useless, and return why.

        A daemon that is not there is known at the first failed attempt; a TCP connection that ends
        before the encrypted handshake did means a wrong key on one of the two sides.
        """
        connected = shaken = False
        assert self._monitor is not None, "a transport that was made has its monitor"
        while True:
            with _no_socket():
                event = (await recv_monitor_message(self._monitor))["event"]
            if event == zmq.EVENT_CONNECTED:
                connected = True
            elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                shaken = True
                self.let_in.set()
            elif event in _FAILED or (event == zmq.EVENT_DISCONNECTED and connected and not shaken):
                return self._refused()
            elif event == zmq.EVENT_DISCONNECTED:
                return DaemonUnreachable(f"The connection to {self._endpoint.address} was lost.", REACHING)
            elif event == zmq.EVENT_CONNECT_RETRIED and not connected:
                return await self._unreachable()

    async def receive(self) -> Sequence[bytes]:
        """Wait for the frames of the next message."""
        with _no_socket():
            frames: list[bytes] = await self._socket.recv_multipart()
        return frames

    def send(self, frames: Sequence[bytes | memoryview]) -> None:
        """Send without waiting; raises ProtocolError if the peer has stopped reading."""
        sent = cast(asyncio.Future[object], self._socket.send_multipart(frames, flags=zmq.NOBLOCK, copy=True))
        if sent.done() and sent.exception() is not None:
            raise ProtocolError("The daemon has stopped reading from this connection.")

    def close(self) -> None:
        """Close the socket; messages just sent still leave. Raises nothing."""
        with suppress(zmq.ZMQError):
            self._socket.disable_monitor()
        if self._monitor is not None:
            _close(self._monitor, linger=0)
        _close(self._socket)

    def _refused(self) -> HandshakeRefused:
        return HandshakeRefused(
            f"The daemon at {self._endpoint.address} refused the encrypted handshake.",
            "Either this key is not enrolled ('qied keys add' on the daemon's machine), or the key file is for "
            "another daemon.",
        )

    async def _unreachable(self) -> DaemonUnreachable:
        """Why there is no connection: a name that stands for no address, or an address where nothing answers."""
        address = self._endpoint.address
        host = read_address(address).host.strip("[]")
        try:
            async with time_limit(_NAME_S):
                await asyncio.get_running_loop().getaddrinfo(host, None)
        except TimeoutError:
            pass  # a slow name server: what is known is that nothing answered
        except OSError:
            return DaemonUnreachable(f"There is no host {host!r}, as {address} has it.", _NAMING)
        return DaemonUnreachable(f"Nothing answers at {address}.", _STARTING if host in _HERE else REACHING)


def _see_that_it_is_watched(socket: zmq.asyncio.Socket) -> None:
    """Raise what the loop has against the socket now: pyzmq asks it only once it has to wait."""
    loop = asyncio.get_running_loop()
    loop.add_reader(socket.FD, lambda: None)
    loop.remove_reader(socket.FD)


def _close(socket: zmq.asyncio.Socket, linger: int | None = None) -> None:
    """Close a socket, also where the loop that watches it refuses to let go of it."""
    try:
        socket.close(linger=linger)
    except (OSError, RuntimeError):
        zmq.Socket.close(socket, linger=linger)
