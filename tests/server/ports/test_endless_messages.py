"""Messages that never end: what one user's connections hold together is bounded, and so is the time to begin."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from socket import create_connection, socket

import pytest
import zmq
import zmq.asyncio

from qied.server.ports import flood_guard
from qied.server.ports.flood_guard import FloodGuard, can_guard

pytestmark = pytest.mark.skipif(not can_guard(), reason="only Linux counts bytes")

MIB = 1024 * 1024
GREETING = b"\xff" + (1).to_bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_COMMAND = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
READY = bytes([4, len(_COMMAND)]) + _COMMAND
"""GREETING and READY are how a DEALER without encryption begins (ZMTP 3.0)."""


@pytest.fixture
def sockets() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def greet(connection: socket) -> None:
    """Exchange greetings."""
    connection.sendall(GREETING)
    received = b""
    while len(received) < len(GREETING):
        received += connection.recv(4096)


async def closed(connection: socket) -> None:
    """Wait until the other side has closed."""
    connection.setblocking(False)
    while await asyncio.get_running_loop().sock_recv(connection, 4096):
        pass


async def guarded(context: zmq.asyncio.Context, unfinished_bytes: int) -> tuple[zmq.asyncio.Socket, FloodGuard, int]:
    router = context.socket(zmq.ROUTER)
    router.linger = 0
    guard = FloodGuard(router, unfinished_bytes)
    return router, guard, router.bind_to_random_port("tcp://127.0.0.1")


async def test_the_unfinished_messages_of_one_user_count_together(sockets: ExitStack) -> None:
    context = zmq.asyncio.Context()
    router, guard, port = await guarded(context, 3 * MIB)
    connections = {}
    for user in ("ann", "ann", "bob"):
        connection = sockets.enter_context(create_connection(("127.0.0.1", port)))
        greet(connection)
        connection.sendall(READY + b"\x00\x02hi")
        route, first = await router.recv_multipart(copy=False)
        while first.get(zmq.SRCFD) not in guard._watched:  # noqa: ASYNC110 - the monitor says so soon
            await asyncio.sleep(0)
        guard.delivered(first.get(zmq.SRCFD), route.bytes, user)
        connections[connection] = user
    await asyncio.sleep(2 * flood_guard._INTERVAL_S)
    endings = {asyncio.ensure_future(closed(connection)): connection for connection in connections}
    for connection in connections:
        await asyncio.get_running_loop().sock_sendall(connection, (b"\x03" + (MIB).to_bytes(8) + bytes(MIB)) * 2)
    done, left = await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    assert [connections[endings[task]] for task in done] == ["ann"]
    for task in left:
        task.cancel()
    await guard.close()
    context.destroy(linger=0)


async def test_a_connection_on_which_no_message_comes_is_closed(
    sockets: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flood_guard, "_FIRST_MESSAGE_MS", 100)
    context = zmq.asyncio.Context()
    _, guard, port = await guarded(context, 3 * MIB)
    connection = sockets.enter_context(create_connection(("127.0.0.1", port)))
    greet(connection)
    connection.sendall(READY)
    await asyncio.wait_for(closed(connection), 20)
    await guard.close()
    context.destroy(linger=0)
