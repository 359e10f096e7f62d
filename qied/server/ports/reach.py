"""Who can reach an address that the daemon listens on."""

from __future__ import annotations

import ipaddress

_NAMES = ("localhost", "lo", "lo0")


def only_this_machine(address: str) -> bool:
    """Whether ``tcp://HOST:PORT`` is reached by programs of this machine alone, as far as its text tells."""
    host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in _NAMES
