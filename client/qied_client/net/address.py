"""Addresses of daemons: ``tcp://HOST:PORT``, an IPv6 address in brackets."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

EXAMPLES = "tcp://127.0.0.1:7447 or tcp://[::1]:7447"

_FORM = re.compile(r"tcp://(?P<host>\[[^\[\]\s]+\]|[^\[\]\s]+):(?P<port>[^:;/\s]*)", re.ASCII)
_NAME = re.compile(r"[\w.-]+", re.ASCII)
_HIGHEST_PORT = 65_535


@dataclass(frozen=True)
class Address:
    """A host as it stands in the address, brackets included, and a port; None is ``*``, any free one."""

    host: str
    port: int | None

    @property
    def families(self) -> tuple[bool, ...]:
        """Whether IPv6 is to be used, for each attempt to reach it: a name may stand for either family."""
        if self.host.startswith("["):
            return (True,)
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return (False, True)
        return (False,)


def read_address(text: str, *, listening: bool = False) -> Address:
    """Read an address; one to listen at may have ``*`` as its host or port.

    Raises ValueError with a sentence that says how to write it.
    """
    found = _FORM.fullmatch(text)
    if found is None or not _is_host(found["host"], listening=listening):
        raise ValueError(f"{text!r} is not an address; use {EXAMPLES}")
    if listening and found["port"] == "*":
        return Address(found["host"], None)
    port = found["port"]
    if not (port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= _HIGHEST_PORT):
        star = " or *" if listening else ""
        raise ValueError(f"{text!r} has no port from 1 to {_HIGHEST_PORT}{star}; use {EXAMPLES}")
    return Address(found["host"], int(port))


def _is_host(host: str, *, listening: bool) -> bool:
    if host == "*":
        return listening
    if host.startswith("["):
        try:
            return isinstance(ipaddress.ip_address(host[1:-1]), ipaddress.IPv6Address)
        except ValueError:
            return False
    if re.fullmatch(r"[\d.]+", host, re.ASCII):
        try:
            return bool(ipaddress.ip_address(host))
        except ValueError:
            return False
    return _NAME.fullmatch(host) is not None
