"""Checks of where the daemon listens: the port is free, or a daemon of this state folder has it."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import psutil
from qied_client.credentials import LOCAL_FILE, read_credential
from qied_client.errors import CredentialsMissing

from qied.config import Config
from qied.doctor.checkup import Check
from qied.doctor.facts import Facts
from qied.doctor.findings import Verdict, error, ok, warning
from qied.server.ports.flood_guard import can_guard
from qied.server.ports.reach import only_this_machine

_LOCK = "journal.db.lock"
_ADDRESSES = "or take 127.0.0.1 (this machine only) or * (all addresses)."


def free(facts: Facts) -> Verdict:
    """The daemon can listen on the configured port."""
    assert isinstance(facts.config, Config)
    listen = facts.config.daemon.listen
    host, _, port = listen.removeprefix("tcp://").rpartition(":")
    if port in ("*", "0"):
        return ok("Any free port is used.")
    problem = _bind(host.strip("[]"), int(port))
    if problem is None:
        return ok(f"Port {port} is free.")
    if (process := running_daemon(facts.home)) is not None and _port_of(facts.home) == port:
        return ok(f"The daemon of this state folder (process {process}) listens on port {port}.")
    return error(f"Cannot listen on {listen}: {_text(problem)}.", _remedy(problem))


def floods(facts: Facts) -> Verdict:
    """A connection that sends an endless message is closed, or other machines cannot connect."""
    assert isinstance(facts.config, Config)
    listen = facts.config.daemon.listen
    if can_guard():
        return ok("A connection that sends an endless message is closed.")
    if only_this_machine(listen):
        return ok("Only programs on this machine can connect.")
    return warning(
        f"{facts.snapshot.os.system} does not report how much a connection has sent, so one that sends an endless "
        "message is not closed.",
        "Listen on 127.0.0.1 and let others in through a tunnel (ssh -L), or run the daemon on Linux.",
    )


def running_daemon(home: Path) -> int | None:
    """The process number of the daemon that uses the state folder; None where none runs."""
    try:
        text = (home / _LOCK).read_bytes()[:32]
        process = int(text) if text.isdigit() else None
        if process is not None and any("qied" in part for part in psutil.Process(process).cmdline()):
            return process
    except (OSError, psutil.Error):
        return None
    return None


def _port_of(home: Path) -> str | None:
    """The port that the daemon started last has noted for the machine's owner."""
    try:
        return read_credential(home / LOCAL_FILE).endpoint.rpartition(":")[2]
    except CredentialsMissing:
        return None


def _text(problem: OSError) -> str:
    if isinstance(problem, socket.gaierror):
        return "this name has no address"
    return (problem.strerror or str(problem)).lower()


def _remedy(problem: OSError) -> str:
    if isinstance(problem, socket.gaierror):
        return f"Correct the name in daemon.listen, {_ADDRESSES}"
    if problem.errno == errno.EADDRNOTAVAIL:
        return f"This machine does not have that address: give one that it has in daemon.listen, {_ADDRESSES}"
    if problem.errno in (errno.EACCES, errno.EPERM):
        return "This user may not take that port: choose one above 1023 with --listen."
    return "Stop the program that has it (ss -ltnp shows it), or choose another with --listen."


def _bind(host: str, port: int) -> OSError | None:
    """Take the port for a moment; returns why it cannot be had."""
    addresses = psutil.net_if_addrs()
    if host in addresses:  # libzmq takes the names of network interfaces, too
        host = next((entry.address for entry in addresses[host] if entry.family == socket.AF_INET), host)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            None if host == "*" else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As libzmq does: a port whose last connections are only just closed counts as free.
            # On Windows that option would take the port away from its owner, and another one is asked for.
            option = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
            probe.setsockopt(socket.SOL_SOCKET, option, 1)
            probe.bind(address)
    except OSError as problem:
        return problem
    return None


CHECKS = (
    Check("port.free", "Clients reach the daemon there.", free, local=True, configured=True),
    Check(
        "port.floods",
        "Any enrolled client could fill this machine's memory.",
        floods,
        local=True,
        configured=True,
    ),
)
