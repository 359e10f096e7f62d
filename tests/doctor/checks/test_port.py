"""The port is free, or is that of the daemon of this folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from qied.doctor.checks.port import running_daemon
from qied.doctor.findings import Status
from qied.server.access.keys import KeyStore


@pytest.fixture
def listening():
    """A port that somebody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def at(facts, port, host="127.0.0.1"):
    return facts(overrides={"daemon.listen": f"tcp://{host}:{port}"})


def test_a_port_that_nobody_has_is_free_and_stays_so(facts, ask):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    examined = at(facts, port)
    assert ask("port.free", examined).message == f"Port {port} is free."
    assert ask("port.free", examined).status is Status.OK


def test_any_port_is_free(facts, ask):
    assert ask("port.free", at(facts, "*")).status is Status.OK


@pytest.mark.parametrize("host", ["127.0.0.1", "lo", "0.0.0.0", "*"])
def test_a_port_of_another_program_is_an_error(facts, ask, listening, host):
    found = ask("port.free", at(facts, listening, host))
    assert (found.status, "address already in use" in found.message) == (Status.ERROR, True)
    assert "Stop the program" in found.remedy


def test_an_address_that_this_machine_does_not_have_is_an_error(facts, ask):
    found = ask("port.free", at(facts, 7447, "192.0.2.1"))
    assert found.status is Status.ERROR
    assert "does not have that address" in found.remedy


def test_a_name_that_nobody_knows_is_an_error_of_the_name(facts, ask, monkeypatch):
    def unknown(*asked, **more):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    found = ask("port.free", at(facts, 7447, "studio.invalid"))
    assert (found.status, "this name has no address" in found.message) == (Status.ERROR, True)
    assert "Correct the name" in found.remedy


@pytest.fixture
def daemon_of():
    """A process that says to be the daemon of a folder, as the journal's lock file does."""
    processes = []

    def start(home):
        process = subprocess.Popen([sys.executable, "-c", "input()", "qied"], stdin=subprocess.PIPE)
        processes.append(process)
        home.mkdir(exist_ok=True)
        (home / "journal.db.lock").write_text(str(process.pid))
        return process.pid

    yield start
    for process in processes:
        process.communicate(b"\n")


def test_the_daemon_of_this_folder_may_have_its_port(facts, ask, listening, daemon_of):
    examined = at(facts, listening)
    pid = daemon_of(examined.home)
    KeyStore(examined.home).ensure_local(f"tcp://127.0.0.1:{listening}")
    found = ask("port.free", examined)
    assert (found.status, f"process {pid}" in found.message) == (Status.OK, True)


def test_a_daemon_of_this_folder_at_another_port_does_not_excuse_it(facts, ask, listening, daemon_of):
    examined = at(facts, listening)
    daemon_of(examined.home)
    KeyStore(examined.home).ensure_local("tcp://127.0.0.1:1")
    assert ask("port.free", examined).status is Status.ERROR


def test_a_lock_file_that_a_dead_daemon_left_names_nobody(tmp_path):
    assert running_daemon(tmp_path) is None
    (tmp_path / "journal.db.lock").write_text("")
    assert running_daemon(tmp_path) is None
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    (tmp_path / "journal.db.lock").write_text(str(process.pid))
    assert running_daemon(tmp_path) is None
    (tmp_path / "journal.db.lock").write_text(str(os.getppid()))  # taken over by another program
    assert running_daemon(tmp_path) in (None, os.getppid())


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_where_the_system_counts_what_connections_send_a_flood_is_cut(facts, ask, host, monkeypatch):
    monkeypatch.setattr("qied.doctor.checks.port.can_guard", lambda: True)
    assert ask("port.floods", at(facts, "*", host)).status is Status.OK


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", Status.OK), ("0.0.0.0", Status.WARNING)])
def test_where_it_does_not_the_network_is_warned_of(facts, machine, ask, host, status, monkeypatch):
    monkeypatch.setattr("qied.doctor.checks.port.can_guard", lambda: False)
    examined = facts(machine(os={"system": "Darwin"}), overrides={"daemon.listen": f"tcp://{host}:*"})
    found = ask("port.floods", examined)
    assert found.status is status
    assert ("Darwin does not report" in found.message) == (status is Status.WARNING)
