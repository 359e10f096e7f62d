"""The driver over real sockets: what its callers see when the daemon is wrong, absent, hung or restarted."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zmq
from qied_client.connection import Connection
from qied_client.credentials import read_credential
from qied_client.errors import (
    CredentialsMissing,
    DaemonUnreachable,
    HandshakeRefused,
    InternalError,
    InvalidRequest,
    ProtocolError,
    QiedError,
    UnknownBlob,
    VersionMismatch,
)
from qied_client.net.driver import Driver
from qied_client.net.transport import Endpoint
from qied_client.protocol import messages as m
from qied_client.protocol.roles import FROM_DAEMON
from qied_client.transfers import hash_of

Drive = Callable[..., Driver]
BLOB = bytes(range(256)) * 6000
_LIMIT_S = 60.0
"""What ends a test that hangs; nothing here is about how fast anything is."""
_FOREVER_S = 3600.0
"""A patience that no test outlasts: what fails all the same did not wait for it."""


def endpoint_of(key: Path) -> Endpoint:
    credential = read_credential(key)
    return Endpoint(credential.endpoint, credential.server_key, credential.public_key, credential.secret_key)


@pytest.fixture
async def drive() -> AsyncIterator[Drive]:
    drivers: list[Driver] = []

    def make(endpoint: Path | Callable[[], Endpoint], patience_s: float = _FOREVER_S, **hooks: Any) -> Driver:
        connection = Connection(lambda n: m.Hello(n, 1, 1, "test"), m.Welcome, FROM_DAEMON)
        where = endpoint if callable(endpoint) else lambda: endpoint_of(endpoint)
        on_push = hooks.get("on_push", lambda message: None)
        on_failure = hooks.get("on_failure", lambda error: None)
        drivers.append(Driver(connection, where, on_push, on_failure, patience_s))
        return drivers[-1]

    yield make
    for driver in drivers:
        await driver.close()


async def failure_of(work: Any) -> QiedError:
    with pytest.raises(QiedError) as caught:
        await asyncio.wait_for(work, _LIMIT_S)
    return caught.value


def with_short_silence(welcome: m.Welcome) -> m.Welcome:
    """For tests that wait for a silence; a machine that is slow meanwhile only makes them wait again."""
    return replace(welcome, heartbeat_ms=50, silence_ms=300)


async def heard(daemon: Any, kind: type[m.Message]) -> Any:
    return await asyncio.to_thread(daemon.wait_for, kind)


# Who is not let in


async def test_a_wrong_server_key_is_a_refused_handshake(daemon: Any, drive: Drive) -> None:
    daemon.write_key(daemon.address, server_key=zmq.curve_keypair()[0].decode())
    error = await failure_of(drive(daemon.key).start())
    assert type(error) is HandshakeRefused
    assert daemon.address in error.message
    assert "keys add" in error.remedy


async def test_a_key_that_is_not_enrolled_is_a_refused_handshake(daemon: Any, drive: Drive) -> None:
    daemon.enrolled.clear()
    assert type(await failure_of(drive(daemon.key).start())) is HandshakeRefused


async def test_a_key_that_is_enrolled_later_is_let_in_then(daemon: Any, drive: Drive) -> None:
    daemon.enrolled.clear()
    driver = drive(daemon.key)
    await failure_of(driver.start())
    daemon.enrolled.add(daemon.public)
    assert isinstance(await asyncio.wait_for(driver.start(), _LIMIT_S), m.Welcome)


async def test_a_missing_key_file_fails_at_once_and_works_once_it_is_there(absent_daemon: Any, drive: Drive) -> None:
    driver = drive(absent_daemon.key)
    assert type(await failure_of(driver.start())) is CredentialsMissing
    absent_daemon.start()
    await asyncio.wait_for(driver.start(), _LIMIT_S)


async def test_keys_that_are_none_fail_at_once(daemon: Any, drive: Drive) -> None:
    for wrong in ("short", "~" * 40, ""):
        driver = drive(lambda wrong=wrong: Endpoint(daemon.address, wrong, wrong, wrong))
        assert type(await failure_of(driver.start())) is CredentialsMissing


# Who is not there


async def test_where_nothing_listens_the_patience_ends(daemon: Any, free_address: str, drive: Drive) -> None:
    daemon.write_key(free_address)
    started = time.monotonic()
    error = await failure_of(drive(daemon.key, patience_s=0.4).start())
    assert type(error) is DaemonUnreachable
    assert "qied serve" in error.remedy
    assert time.monotonic() - started >= 0.4


async def test_a_host_that_does_not_exist_is_told_apart_from_one_where_nothing_answers(
    daemon: Any, drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(host: str, *_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, f"no {host}")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    absent = replace(endpoint_of(daemon.key), address="tcp://studio.invalid:7447")
    error = await failure_of(drive(lambda: absent, patience_s=0.1).start())
    assert type(error) is DaemonUnreachable
    assert error.message == "There is no host 'studio.invalid', as tcp://studio.invalid:7447 has it."
    assert "qied serve" not in error.remedy


async def test_an_address_that_is_none_is_said_so(daemon: Any, drive: Drive) -> None:
    nowhere = replace(endpoint_of(daemon.key), address="somewhere")
    error = await failure_of(drive(lambda: nowhere).start())
    assert type(error) is InvalidRequest
    assert "'somewhere' is not an address; use tcp://" in error.message


async def test_a_name_that_may_stand_for_either_family_is_tried_in_both(daemon: Any, drive: Drive) -> None:
    """The name of this machine's loopback, while the daemon listens at one of its two addresses only."""
    for host in hosts_of_localhost():
        daemon.stop()
        daemon.listen = f"tcp://{host}:*"
        daemon.start()
        by_name = replace(endpoint_of(daemon.key), address=f"tcp://localhost:{daemon.address.rpartition(':')[2]}")
        await asyncio.wait_for(drive(lambda where=by_name: where, patience_s=0.0).start(), _LIMIT_S)


def hosts_of_localhost() -> list[str]:
    """127.0.0.1, and [::1] where the name stands for it and this machine has it."""
    found = ["127.0.0.1"]
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        addresses = socket.getaddrinfo("localhost", None, socket.AF_INET6)
        found += ["[::1]"] if ("::1", 0, 0, 0) in {entry[4] for entry in addresses} else []
    return found


async def test_an_ipv6_address_is_connected_to_or_said_to_be_unreachable(daemon: Any, drive: Drive) -> None:
    daemon.stop()
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        daemon.listen = "tcp://[::1]:*"
    except OSError:  # a machine without IPv6
        daemon.listen = "tcp://127.0.0.1:*"
    daemon.start()
    where = replace(endpoint_of(daemon.key), address=f"tcp://[::1]:{daemon.address.rpartition(':')[2]}")
    driver = drive(lambda: where, patience_s=0.2)
    if "[::1]" in daemon.listen:
        await asyncio.wait_for(driver.start(), _LIMIT_S)
    else:
        assert isinstance(await failure_of(driver.start()), DaemonUnreachable)


async def test_who_never_answered_was_not_lost_but_could_not_be_reached(daemon: Any, drive: Drive) -> None:
    """As behind a firewall that drops packets: the connection is accepted by the system, and never served."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        where = replace(endpoint_of(daemon.key), address=address)
        connection = Connection(lambda n: m.Hello(n, 1, 1, "test"), m.Welcome, FROM_DAEMON)
        connection.heartbeat_ms, connection.silence_ms = 50, 300
        driver = Driver(connection, lambda: where, lambda message: None, lambda error: None, 0.1)
        try:
            error = await failure_of(driver.start())
        finally:
            await driver.close()
    assert type(error) is DaemonUnreachable
    assert error.message.startswith(f"The daemon at {address} could not be reached: ")
    assert "lost" not in error.message
    for remedy in ("qied serve", "firewall", "key file"):
        assert remedy in error.remedy


async def test_a_driver_that_gave_up_connects_when_it_is_wanted_again(
    daemon: Any, free_address: str, drive: Drive
) -> None:
    daemon.write_key(free_address)
    driver = drive(daemon.key, patience_s=0.1)
    await failure_of(driver.start())
    daemon.write_key(daemon.address)
    assert isinstance(await asyncio.wait_for(driver.start(), _LIMIT_S), m.Welcome)
    assert isinstance(await driver.ask(m.Status), m.StatusReport)


async def test_all_who_wait_for_the_connection_get_it(daemon: Any, drive: Drive) -> None:
    driver = drive(daemon.key)
    async with asyncio.timeout(_LIMIT_S):
        welcomes = await asyncio.gather(driver.start(), driver.start(), driver.start())
    assert len({id(welcome) for welcome in welcomes}) == 1


async def test_all_who_wait_for_the_connection_hear_that_there_is_none(
    daemon: Any, free_address: str, drive: Drive
) -> None:
    daemon.write_key(free_address)
    failures: list[QiedError] = []
    driver = drive(daemon.key, patience_s=0.1, on_failure=failures.append)
    waiting = [driver.start(), driver.start(), driver.ask(m.Status), driver.download("0" * 64)]
    async with asyncio.timeout(_LIMIT_S):
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [DaemonUnreachable] * 4
    assert [type(failure) for failure in failures] == [DaemonUnreachable]


# Who is wrong


async def test_no_common_version_is_said_at_once(daemon: Any, drive: Drive) -> None:
    def refuse(message: m.Message) -> list[m.Message] | None:
        if isinstance(message, m.Hello):
            return [m.Failure.of(VersionMismatch("This daemon speaks protocol 2.", "Upgrade."), message.id)]
        return None

    daemon.before = refuse
    error = await failure_of(drive(daemon.key).start())
    assert type(error) is VersionMismatch
    assert error.remedy == "Upgrade."


async def test_a_daemon_that_does_not_speak_the_protocol_is_said_at_once(daemon: Any, drive: Drive) -> None:
    daemon.before, daemon.raw = lambda message: [], [b"HTTP/1.1", b"400"]
    assert type(await failure_of(drive(daemon.key).start())) is ProtocolError


# Who hangs, leaves or comes back


@pytest.mark.parametrize("reads", [True, False], ids=["reads but never answers", "stops reading"])
async def test_a_hung_daemon_is_lost_by_silence(daemon: Any, drive: Drive, reads: bool) -> None:
    driver = drive(daemon.key, patience_s=0.2)
    daemon.welcome = with_short_silence(daemon.welcome)
    await driver.start()

    def hang(message: m.Message) -> list[m.Message]:
        daemon.reading = reads
        return []

    daemon.before = hang
    error = await failure_of(driver.ask(m.Status))
    assert type(error) is DaemonUnreachable


async def test_a_request_survives_a_daemon_that_hangs_for_a_while(daemon: Any, drive: Drive) -> None:
    driver = drive(daemon.key)
    daemon.welcome = with_short_silence(daemon.welcome)
    await driver.start()

    def hang_until_the_next_hello(message: m.Message) -> list[m.Message] | None:
        if not isinstance(message, m.Hello):
            return []
        daemon.before = lambda message: None
        return None

    daemon.before = hang_until_the_next_hello
    assert isinstance(await asyncio.wait_for(driver.ask(m.Status), _LIMIT_S), m.StatusReport)


async def test_a_quiet_connection_is_kept_by_pings(daemon: Any, drive: Drive) -> None:
    driver = drive(daemon.key)
    daemon.welcome = replace(daemon.welcome, heartbeat_ms=20)
    await driver.start()
    await heard(daemon, m.Hello)
    for _ in range(8):
        await heard(daemon, m.Ping)
    assert isinstance(await driver.ask(m.Status), m.StatusReport)
    while not daemon.heard.empty():
        assert not isinstance(daemon.heard.get_nowait(), m.Hello)


async def test_a_restart_at_another_port_is_followed(daemon: Any, drive: Drive) -> None:
    driver = drive(daemon.key)
    await driver.start()
    before = daemon.address
    daemon.before = lambda message: [] if isinstance(message, m.Status) else None
    pending = asyncio.create_task(driver.ask(m.Status))
    await heard(daemon, m.Status)
    await asyncio.to_thread(daemon.stop)
    daemon.before = lambda message: None
    await asyncio.to_thread(daemon.start)
    assert daemon.address != before
    assert isinstance(await asyncio.wait_for(pending, _LIMIT_S), m.StatusReport)
    assert isinstance(await asyncio.wait_for(driver.ask(m.Status), _LIMIT_S), m.StatusReport)


async def test_after_a_goodbye_the_client_connects_anew(daemon: Any, drive: Drive) -> None:
    driver = drive(daemon.key)
    await driver.start()
    await heard(daemon, m.Hello)
    daemon.send(m.Bye("restarting"))
    await heard(daemon, m.Hello)
    assert isinstance(await asyncio.wait_for(driver.ask(m.Status), _LIMIT_S), m.StatusReport)


# Requests and transfers


async def test_blobs_arrive_whole_in_both_directions(daemon: Any, drive: Drive) -> None:
    driver = drive(daemon.key)
    await driver.start()
    moves: list[tuple[int, int]] = []
    await driver.upload(hash_of(BLOB), memoryview(BLOB), lambda done, total: moves.append((done, total)))
    assert daemon.blobs[hash_of(BLOB)] == BLOB
    assert moves[-1] == (len(BLOB), len(BLOB))
    assert moves == sorted(moves)
    assert await driver.download(hash_of(BLOB)) == BLOB
    with pytest.raises(UnknownBlob):
        await driver.download("0" * 64)


async def test_an_error_in_a_callers_callback_is_that_callers_alone(daemon: Any, drive: Drive) -> None:
    def broken(done: int, total: int) -> None:
        raise ZeroDivisionError("a defect of the caller")

    driver = drive(daemon.key)
    await driver.start()
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(driver.upload(hash_of(BLOB), memoryview(BLOB), broken), _LIMIT_S)
    await heard(daemon, m.Drop)
    assert isinstance(await asyncio.wait_for(driver.ask(m.Status), _LIMIT_S), m.StatusReport)


async def test_who_gives_a_transfer_up_ends_it_at_the_daemon(daemon: Any, drive: Drive) -> None:
    driver = drive(daemon.key)
    await driver.start()
    daemon.before = lambda message: [] if isinstance(message, m.Get) else None
    waiting = asyncio.create_task(driver.download("0" * 64))
    get = await heard(daemon, m.Get)
    waiting.cancel()
    drop = await heard(daemon, m.Drop)
    assert drop.transfer == get.id
    assert isinstance(await driver.ask(m.Status), m.StatusReport)


async def test_a_request_that_cannot_be_sent_is_refused_and_does_no_harm(daemon: Any, drive: Drive) -> None:
    driver = drive(daemon.key)
    await driver.start()
    with pytest.raises(InvalidRequest):
        await driver.ask(lambda n: m.Cancel(n, "a\udcff"))
    assert isinstance(await driver.ask(m.Status), m.StatusReport)


async def test_events_are_pushed(daemon: Any, drive: Drive) -> None:
    pushed: asyncio.Queue[m.Message] = asyncio.Queue()
    driver = drive(daemon.key, on_push=pushed.put_nowait)
    await driver.start()
    daemon.before = lambda message: (
        [m.Resumed(message.id, "job", "running"), m.Event("job", 1, "started")]
        if isinstance(message, m.Resume)
        else None
    )
    assert (await driver.follow("job")).state == "running"
    assert await asyncio.wait_for(pushed.get(), _LIMIT_S) == m.Event("job", 1, "started")


async def test_a_defect_fails_what_waits_and_does_not_end_the_driver(daemon: Any, drive: Drive) -> None:
    def broken(message: m.Message) -> None:
        raise ZeroDivisionError("a defect of the client")

    driver = drive(daemon.key, on_push=broken)
    await driver.start()
    daemon.before = lambda message: (
        [m.Resumed(message.id, "job", "running"), m.Event("job", 1, "started")]
        if isinstance(message, m.Resume)
        else ([] if isinstance(message, m.Status) else None)
    )
    waiting = asyncio.create_task(driver.ask(m.Status))
    await heard(daemon, m.Status)
    await driver.follow("job")
    assert type(await failure_of(waiting)) is InternalError
    driver.unfollow("job")
    daemon.before = lambda message: None
    await asyncio.wait_for(driver.start(), _LIMIT_S)
    assert isinstance(await asyncio.wait_for(driver.ask(m.Status), _LIMIT_S), m.StatusReport)


# The end


async def test_closing_says_goodbye_and_fails_what_waits(daemon: Any, drive: Drive) -> None:
    driver = drive(daemon.key)
    await driver.start()
    daemon.before = lambda message: [] if isinstance(message, m.Status) else None
    waiting = asyncio.create_task(driver.ask(m.Status))
    await heard(daemon, m.Status)
    await driver.close()
    assert "closed" in (await failure_of(waiting)).message
    await heard(daemon, m.Bye)


async def test_a_closed_driver_refuses_work_and_can_be_closed_again(daemon: Any, drive: Drive) -> None:
    driver = drive(daemon.key)
    await driver.start()
    await driver.close()
    await driver.close()
    for work in (driver.start(), driver.ask(m.Status), driver.download("0" * 64)):
        assert "closed" in (await failure_of(work)).message


def test_the_key_file_of_these_tests_is_what_clients_read(daemon: Any) -> None:
    assert json.loads(daemon.key.read_text())["endpoint"] == daemon.address == read_credential(daemon.key).endpoint
