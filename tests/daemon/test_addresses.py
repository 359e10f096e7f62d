"""Where the daemon listens: IPv4, IPv6, both; and what it says where it cannot."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
from qied_client.credentials import read_credential


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def knows_ipv6() -> bool:
    """Whether the system has sockets of this family, with or without an address for them."""
    try:
        socket.socket(socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("listen", "hosts"),
    [
        ("tcp://[::1]:*", ["[::1]"]),
        ("tcp://[::]:*", ["127.0.0.1", "[::1]", "localhost"]),
        ("tcp://0.0.0.0:*", ["127.0.0.1", "localhost"]),
        ("tcp://localhost:*", ["127.0.0.1", "localhost"]),
    ],
)
def test_clients_reach_it_at_every_address_it_listens_at(tmp_path, daemon_process, listen, hosts):
    daemon = daemon_process(tmp_path / "home")
    daemon.listen = listen
    daemon.start_unready()
    if ("[::1]" in listen and not has_ipv6()) or ("[" in listen and not knows_ipv6()):
        assert daemon.wait() == 2
        assert "daemon.listen: cannot listen at" in str(daemon.log)
        return
    try:  # [::] is served over IPv4 alone where this machine has no address of IPv6
        daemon.wait_for("ready")
        with daemon.client() as local:
            assert local.status().workers
        port = read_credential(daemon.key).endpoint.rpartition(":")[2]
        for host in hosts if has_ipv6() else set(hosts) - {"[::1]"}:
            with daemon.client(address=f"tcp://{host}:{port}") as client:
                assert client.status().workers
    finally:
        assert daemon.stop() == 0


def test_a_taken_port_is_said_before_anything_else_is_looked_at(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, "-m", "qied", "serve", "--model", "/no/model", "--listen", address]
        done = subprocess.run(
            [*command, "--home", str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode == 2
    assert "is in use by" in done.stderr
    assert "/no/model" not in done.stderr
