"""Notifications to the service manager that started the daemon (``sd_notify``, as systemd and Podman understand it)."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import MutableMapping

import structlog

_STARTING_S = 600
"""Seconds that a start may take from each sign of progress to the next."""
_STOPPING_S = 60
"""Seconds that a stop may take after the grace of running jobs."""
_SEND_S = 1.0


class Notifier:
    """Says how the daemon is; says nothing where no manager asks for it by ``NOTIFY_SOCKET``. Never raises."""

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        """``address`` is a path, or ``@name`` in Linux's abstract namespace; ``watchdog_s`` as the manager set it."""
        self._log = structlog.get_logger(part="service")
        self._address = None if address is None else _socket_address(address)
        self.watchdog_s = watchdog_s if self._address else None

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Notifier:
        """Read the manager's variables and remove them: they are for this process, not for its children."""
        address = environ.pop("NOTIFY_SOCKET", None)
        return cls(address, _watchdog_s(environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")))

    def starting(self, status: str) -> None:
        """The start makes progress: the manager's limit for it begins again."""
        self._send(_status(status), _extend(_STARTING_S))

    def ready(self, status: str) -> None:
        """A worker is ready, or what was reloaded counts."""
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """The configuration is read again; ``ready`` follows."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str, grace_s: float) -> None:
        """Running jobs finish, for as long as ``grace_s`` seconds."""
        self._send("STOPPING=1", _status(status), _extend(grace_s + _STOPPING_S))

    async def feed_watchdog(self) -> None:
        """Say three times in each of the watchdog's periods that the event loop runs; returns where there is none."""
        while self.watchdog_s is not None:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_s / 3)

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_SEND_S)
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            self._log.debug("the service manager does not listen", reason=str(error))


def _socket_address(text: str) -> str | None:
    """What ``sendto`` takes; None for a kind of address that this system or this program does not know."""
    if not hasattr(socket, "AF_UNIX") or not text.startswith(("/", "@")):
        return None
    return "\0" + text[1:] if text.startswith("@") else text


def _watchdog_s(period_us: str, process: str) -> float | None:
    """Seconds of the watchdog's period; None where there is none, or it is for another process."""
    if not period_us.isdecimal() or int(period_us) == 0 or process not in ("", str(os.getpid())):
        return None
    return int(period_us) / 1_000_000


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())


def _extend(seconds: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}"
