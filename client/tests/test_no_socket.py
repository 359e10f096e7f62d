"""Where no socket can be had, calls end with a typed error within their patience, and closing ends, too."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest
import zmq
import zmq.asyncio
from qied_client import AsyncClient, Client
from qied_client.errors import InvalidRequest, SocketUnavailable

_PATIENCE_S = 0.1
_LIMIT_S = 60.0


async def refused(daemon: Any) -> SocketUnavailable:
    """What connecting says; the client is closed after it."""
    async with asyncio.timeout(_LIMIT_S):
        client = AsyncClient(daemon.key, patience=_PATIENCE_S)
        try:
            with pytest.raises(SocketUnavailable) as caught:
                await client.connect()
        finally:
            await client.close()
    assert caught.value.remedy
    return caught.value


def failing(error: Exception) -> Any:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    "place",
    [
        "asyncio.Context",
        "asyncio.Context.socket",
        "asyncio.Socket.connect",
        "asyncio.Socket.get_monitor_socket",
        "asyncio.Socket.setsockopt",
    ],
)
async def test_what_libzmq_refuses_is_a_typed_error(daemon: Any, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(f"zmq.{place}", failing(zmq.ZMQError(errno.EMFILE)))
        assert "Too many open files" in (await refused(daemon)).message
    async with AsyncClient(daemon.key) as client:
        assert (await client.status()).model == "echo"


@pytest.mark.parametrize(
    "error", [OSError(errno.EPERM, "Operation not permitted"), NotImplementedError(), RuntimeError("no add_reader")]
)
async def test_a_loop_that_does_not_take_the_socket_is_a_typed_error(
    daemon: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    loop = asyncio.get_running_loop()
    with monkeypatch.context() as broken:
        broken.setattr(loop, "add_reader", failing(error))
        assert (str(error) or "no add_reader") in (await refused(daemon)).message


async def test_a_loop_that_does_not_let_a_socket_go_keeps_nobody_from_closing(
    daemon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    client = AsyncClient(daemon.key)
    await client.connect()
    let_go = loop.remove_reader

    def refuse(descriptor: Any) -> bool:
        let_go(descriptor)
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(loop, "remove_reader", refuse)
    async with asyncio.timeout(_LIMIT_S):
        await client.close()


async def test_a_connection_cannot_be_made_anew_without_descriptors(
    daemon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = AsyncClient(daemon.key, patience=1.0)
    await client.connect()
    await asyncio.to_thread(daemon.stop)
    with monkeypatch.context() as full:
        full.setattr(os, "open", failing(OSError(errno.EMFILE, "Too many open files")))
        async with asyncio.timeout(_LIMIT_S):
            with pytest.raises(SocketUnavailable, match="no file descriptors left"):
                await client.status()
    daemon.start()
    assert (await client.status()).model == "echo"
    await client.close()


async def test_without_curve_nothing_is_tried(daemon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zmq.has", lambda capability: capability != "curve")
    client = AsyncClient(daemon.key, patience=3600)
    async with asyncio.timeout(_LIMIT_S):
        with pytest.raises(SocketUnavailable, match="CURVE"):
            await client.connect()
    await client.close()
    with pytest.raises(SocketUnavailable, match="CURVE"):
        Client(daemon.key, patience=3600)


def test_without_a_thread_the_synchronous_client_says_so(daemon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(threading.Thread, "start", failing(RuntimeError("can't start new thread")))
        with pytest.raises(SocketUnavailable, match="can't start new thread"):
            Client(daemon.key)


def test_a_bad_address_fails_the_synchronous_client_and_leaves_no_thread(daemon: Any) -> None:
    for address in ("nowhere", "tcp://", "tcp://127.0.0.1", "udp://127.0.0.1:1"):
        with pytest.raises(InvalidRequest, match="; use tcp://"):
            Client(daemon.key, address=address, patience=_PATIENCE_S)
    assert "qied client" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
@pytest.mark.parametrize("spare", [0, 1, 3, 5, 9, 15])
def test_without_descriptors_a_program_gets_a_typed_error_and_lives(daemon: Any, kind: str, spare: int) -> None:
    script = f"""
        import asyncio, os, resource, sys
        import zmq.asyncio
        from qied_client import AsyncClient, Client
        from qied_client.errors import SocketUnavailable

        async def ask():
            allow({spare})
            client = AsyncClient(sys.argv[1], patience=0.1)
            try:
                await client.connect()
            finally:
                await client.close()

        def allow(spare):
            limit = max(map(int, os.listdir("/dev/fd"))) + spare
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

        try:
            if {kind!r} == "Client":
                allow({spare})
                Client(sys.argv[1], patience=0.1)
            else:
                asyncio.run(ask())
        except SocketUnavailable as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), daemon.key]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_LIMIT_S)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no file descriptors left" in done.stdout
    assert "ulimit -n" in done.stdout
