"""What the encrypted sockets are set to."""

from __future__ import annotations

import zmq
import zmq.asyncio
from qied_client.net.transport import Endpoint, Transport
from qied_client.protocol.roles import FROM_CLIENT

from qied.server.ports.router_port import RouterPort


async def test_zmtp_heartbeats_are_off_on_both_sides_and_tcp_keepalive_is_on() -> None:
    context = zmq.asyncio.Context()
    public, secret = zmq.curve_keypair()
    port = RouterPort(context, "client", secret, FROM_CLIENT, lambda *_: None, lambda _: None)
    address = port.bind("tcp://127.0.0.1:*")
    transport = Transport(context, Endpoint(address, public.decode(), public.decode(), secret.decode()))
    for socket in (port._socket, transport._socket):
        assert socket.getsockopt(zmq.HEARTBEAT_IVL) == 0
        assert socket.getsockopt(zmq.TCP_KEEPALIVE) == 1
    transport.close()
    await port.close()
    context.destroy(linger=0)
