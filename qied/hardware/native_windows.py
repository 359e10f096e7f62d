"""Windows itself, where the daemon does not run: the message, and where it runs instead."""

from __future__ import annotations

import platform

from qied_client.errors import SystemUnsupported

NATIVE_WINDOWS = "Windows"
"""What ``platform.system`` says there; under WSL2 it says Linux."""
SAID = "The qied daemon does not run on Windows itself; on Windows it runs under WSL2."
REMEDY = (
    "Run 'wsl --install' in PowerShell, then install and start qied in the Linux that it opens, as on any Linux; "
    "clients on Windows reach it from outside."
)


def refuse_native_windows(system: str | None = None) -> None:
    """Raise SystemUnsupported on Windows itself; ``system`` is this machine's unless it is given."""
    if (platform.system() if system is None else system) == NATIVE_WINDOWS:
        raise SystemUnsupported(SAID, REMEDY)
