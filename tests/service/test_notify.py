"""What the service manager hears, over a real datagram socket."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys

import pytest

from qied.service.notify import Notifier


@pytest.fixture
def manager(tmp_path):
    """The manager's end: a socket with a path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(20)
        receiver.bind(str(tmp_path / "notify"))
        yield receiver


def heard(receiver):
    return receiver.recv(4096).decode().split("\n")


def test_each_state_is_said_in_systemds_words(manager):
    notifier = Notifier(manager.getsockname())
    notifier.starting("loading\nthe transformer")
    assert heard(manager) == ["STATUS=loading the transformer", "EXTEND_TIMEOUT_USEC=600000000"]
    notifier.ready("serving")
    assert heard(manager) == ["READY=1", "STATUS=serving"]
    notifier.reloading()
    reloading, since = heard(manager)
    assert reloading == "RELOADING=1"
    assert since.startswith("MONOTONIC_USEC=") and int(since.partition("=")[2]) > 0
    notifier.stopping("running jobs finish", 30)
    assert heard(manager) == ["STOPPING=1", "STATUS=running jobs finish", "EXTEND_TIMEOUT_USEC=90000000"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract sockets")
def test_an_abstract_socket_is_understood():
    name = f"qied-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(20)
        receiver.bind(f"\0{name}")
        Notifier(f"@{name}").ready("serving")
        assert heard(receiver)[0] == "READY=1"


@pytest.mark.parametrize("address", [None, "", "vsock:2:1234", "/nowhere/notify", "relative"])
def test_without_a_manager_that_listens_nothing_happens(address):
    notifier = Notifier(address)
    notifier.ready("serving")
    notifier.stopping("stopping", 0)


def test_the_managers_variables_are_taken_and_children_do_not_get_them(manager):
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}
    notifier = Notifier.from_environment(environ)
    assert environ == {}
    assert notifier.watchdog_s == 60.0
    notifier.ready("serving")
    assert heard(manager)[0] == "READY=1"


@pytest.mark.parametrize(("period", "process"), [("60000000", "1"), ("0", ""), ("", ""), ("soon", "")])
async def test_a_watchdog_of_nobody_or_of_another_process_is_not_fed(manager, period, process):
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": period, "WATCHDOG_PID": process}
    await asyncio.wait_for(Notifier.from_environment(environ).feed_watchdog(), 20)
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(4096)


async def test_the_watchdog_is_fed_while_the_event_loop_runs_and_not_while_it_hangs(manager):
    feeding = asyncio.create_task(Notifier(manager.getsockname(), watchdog_s=0.03).feed_watchdog())
    for _ in range(3):
        assert await asyncio.to_thread(heard, manager) == ["WATCHDOG=1"]
    manager.settimeout(0.3)  # ten periods in which the loop does nothing but wait here
    with pytest.raises(TimeoutError):
        for _ in range(5):
            manager.recv(4096)
    manager.settimeout(20)
    assert await asyncio.to_thread(heard, manager) == ["WATCHDOG=1"]
    feeding.cancel()
