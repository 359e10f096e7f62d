"""A port that is taken is found early and says by whom; this machine finds its way to wherever the daemon listens."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress

import psutil
import pytest
from qied_client.errors import ConfigError

from qied.server.ports.listening import cannot_listen, listeners, reached_from_here, refuse_taken_port


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "*", "localhost"])
def test_a_taken_port_is_refused_with_who_has_it_and_how_to_look(host):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is in use by") as refused:
            refuse_taken_port(f"tcp://{host}:{port}")
    assert f"{psutil.Process().name()} (process {os.getpid()})" in refused.value.message
    for part in ("daemon.listen", "Look: ", str(port)):
        assert part in refused.value.remedy


def test_a_free_port_any_port_and_a_name_that_is_not_known_are_left_to_the_bind():
    with socket.create_server(("127.0.0.1", 0)) as was_taken:
        port = was_taken.getsockname()[1]
    for address in (
        f"tcp://127.0.0.1:{port}",
        "tcp://127.0.0.1:*",
        f"tcp://[::1]:{port}",
        f"tcp://no-such-card0:{port}",
    ):
        refuse_taken_port(address)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EADDRNOTAVAIL, "an address of this machine"),
        (errno.ENODEV, "an address of this machine"),
        (errno.EACCES, "a port from 1024 on"),
        (errno.ENOMEM, "another address or port"),
    ],
)
def test_the_remedy_fits_the_reason(number, remedy):
    assert remedy in cannot_listen("tcp://10.9.9.9:7447", number, "why").remedy


@pytest.mark.parametrize(
    ("listening", "reached"), [("tcp://0.0.0.0:{}", "tcp://127.0.0.1:{}"), ("tcp://10.1.2.3:{}", "tcp://10.1.2.3:{}")]
)
def test_all_interfaces_are_reached_by_the_loopback_and_one_by_itself(listening, reached):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert reached_from_here(listening.format(port)) == reached.format(port)


def test_all_interfaces_of_both_families_are_reached_by_the_family_that_answers():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert reached_from_here(f"tcp://[::]:{port}") == f"tcp://127.0.0.1:{port}"
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6) as server:  # if there is IPv6
        port = server.getsockname()[1]
        assert reached_from_here(f"tcp://[::]:{port}") == f"tcp://[::1]:{port}"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_where_programs_listen_on_a_port_can_be_seen(host):
    with socket.create_server((host, 0)) as server:
        port = server.getsockname()[1]
        assert listeners(port) == [f"tcp://{host}:{port}"]
    assert listeners(port) == []
