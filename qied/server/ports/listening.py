"""Listening at an address: whether it can be, what keeps it from that, and how this machine reaches it."""

from __future__ import annotations

import errno
import socket
import sys
from contextlib import suppress
from typing import Any

import psutil
from qied_client.errors import ConfigError
from qied_client.net.address import Address, read_address

_ALL = {"0.0.0.0": socket.AF_INET, "*": socket.AF_INET, "[::]": socket.AF_INET6}
_LOOPBACKS = ("127.0.0.1", "[::1]")
_REACH_S = 2.0


def refuse_taken_port(text: str) -> None:
    """Raise ConfigError where a program listens at this valid address already; what else is wrong shows at the bind."""
    address = read_address(text, listening=True)
    if address.port is None:
        return
    for family, where in _places(address):
        with suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            if sys.platform != "win32":  # where the option would let two programs have the same port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(where)
                probe.listen()
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise cannot_listen(text, error.errno, str(error)) from error


def cannot_listen(text: str, number: int | None, said: str, setting: str = "daemon.listen") -> ConfigError:
    """The error of a bind that failed with this errno, for the address in a setting."""
    address = read_address(text, listening=True)
    if number == errno.EADDRINUSE and address.port is not None:
        return _port_in_use(text, address.port, setting)
    if number in (errno.EADDRNOTAVAIL, errno.ENODEV, errno.EAFNOSUPPORT):
        remedy = "Use an address of this machine, or 127.0.0.1 for this machine alone."
    elif number == errno.EACCES:
        remedy = "Choose a port from 1024 on: those below it are for root."
    else:
        remedy = "Choose another address or port."
    return ConfigError(f"{setting}: cannot listen at {text}: {said}.", remedy)


def reached_from_here(address: str) -> str:
    """The address for a client on this machine, where the daemon listens on all interfaces. Blocks for seconds at most.

    With ``[::]`` that is the loopback of the family that answers: IPv4 is served there as well on most systems.
    """
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if host not in _ALL:
        return address
    first = ("127.0.0.1",) if _ALL[host] == socket.AF_INET else _LOOPBACKS
    for loopback in first:
        with suppress(OSError), socket.create_connection((loopback.strip("[]"), int(port)), _REACH_S):
            return f"tcp://{loopback}:{port}"
    return f"tcp://{first[0]}:{port}"


def listeners(port: int) -> list[str]:
    """Addresses at which programs of this machine listen on a port; none where this user may not see them. Blocking."""
    found = []
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                host = connection.laddr.ip
                found.append(f"tcp://{f'[{host}]' if ':' in host else host}:{port}")
    return found


def _places(address: Address) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    """What a socket would be bound to; nothing for an interface or a name that is not known."""
    if address.host in _ALL:
        family = _ALL[address.host]
        return [(family, ("::" if family == socket.AF_INET6 else "0.0.0.0", address.port or 0))]
    with suppress(OSError):
        found = socket.getaddrinfo(address.host.strip("[]"), address.port, type=socket.SOCK_STREAM)
        return [(entry[0], entry[4]) for entry in found[:1]]
    return []


def _port_in_use(text: str, port: int, setting: str) -> ConfigError:
    owner = _listener(port)
    option = f"--{setting.rpartition('.')[2]}"
    look = {"linux": f"ss -ltnp 'sport = :{port}'", "win32": "netstat -ano"}.get(
        sys.platform, f"lsof -nP -iTCP:{port} -sTCP:LISTEN"
    )
    return ConfigError(
        f"{setting}: cannot listen at {text}: port {port} is in use by {owner or 'another program'}.",
        f"Stop that program, or choose another port ({option}, or {setting}). Look: {look}",
    )


def _listener(port: int) -> str | None:
    """Name and process id of the program that listens at the port; None where this user may not see it."""
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return None
