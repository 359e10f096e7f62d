"""How much host memory may be pinned, so that copies to the card are fast. Pure."""

from __future__ import annotations

import sys

from qied.hardware.snapshot import Snapshot, driver_system

WINDOWS_PINNED_SHARE = 0.5
"""Part of the host memory that a program may pin where the driver is that of Windows (WSL2)."""


def pinnable_bytes(snapshot: Snapshot) -> int:
    """Host memory that a program may pin; what the kernel allows beyond that is found out by trying."""
    total = snapshot.host.memory_total_bytes
    if driver_system(snapshot) == "Windows" and total is not None:
        return int(total * WINDOWS_PINNED_SHARE)
    return sys.maxsize
