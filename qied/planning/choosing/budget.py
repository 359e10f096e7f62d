"""How many bytes a worker may use: of the device, and of the host. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from qied.hardware.snapshot import Gpu, Host, Snapshot
from qied.planning.wishes import Wishes

MIB = 1024**2
HOST_RESERVE = 1024 * MIB
"""Host memory that is left to everything else."""


@dataclass(frozen=True)
class Budget:
    """Bytes, where they came from, and what a person should know about them."""

    bytes: int
    source: str
    warnings: tuple[str, ...] = ()


def device_budget(gpu: Gpu, reserve_bytes: int, wishes: Wishes) -> Budget:
    """Memory of the card that is free now, less the profile's reserve, within what was asked for."""
    free, total = gpu.memory_free_bytes, gpu.memory_total_bytes
    warnings = []
    if free is None and total is not None:
        warnings.append("The card does not report how much of its memory is free; all of it is assumed to be.")
    known = [value for value in (free, total) if value is not None]
    available = max(0, min(known) - reserve_bytes) if known else 0
    source = "what is free, less a reserve"
    if wishes.budget_bytes and (wishes.budget_bytes < available or not known):
        available, source = wishes.budget_bytes, wishes.origin("budget_bytes", "asked for")
    return Budget(available, source, tuple(warnings))


def cpu_budget(host: Host, reserve_bytes: int, wishes: Wishes) -> Budget:
    """Free host memory, less the profile's reserve, within what was asked for."""
    capacity = _free_host(host)
    available = 0 if capacity is None else max(0, capacity - reserve_bytes)
    source = "what is free, less a reserve"
    if wishes.budget_bytes and (capacity is None or wishes.budget_bytes < available):
        available, source = wishes.budget_bytes, wishes.origin("budget_bytes", "asked for")
    return Budget(available, source)


def host_capacity(snapshot: Snapshot) -> int | None:
    """Host memory that a worker may hold, within the container's limit; None where it is not known."""
    free = _free_host(snapshot.host)
    if free is None:
        return None
    return max(0, free - HOST_RESERVE)


def _free_host(host: Host) -> int | None:
    free = host.memory_available_bytes if host.memory_available_bytes is not None else host.memory_total_bytes
    limit = host.memory_limit_bytes
    if limit is not None:
        limit = max(0, limit - (host.memory_limit_used_bytes or 0))
    limits = [value for value in (free, limit) if value is not None]
    return min(limits) if limits else None
