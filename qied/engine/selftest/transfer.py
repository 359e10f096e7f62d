"""The rate at which pinned host memory reaches the card."""

from __future__ import annotations

import torch

from qied.engine.selftest.measure import clock_of, median_seconds
from qied.engine.selftest.suite import Rate

_BYTES = 64 * 1024**2


def host_to_device(device: torch.device) -> Rate:
    """Copy a pinned buffer to the card; the link wakes up in the runs before the measured ones."""
    source = torch.empty(_BYTES, dtype=torch.uint8, pin_memory=True)
    target = torch.empty(_BYTES, dtype=torch.uint8, device=device)
    (seconds,) = median_seconds(clock_of(device), lambda: target.copy_(source, non_blocking=True))
    return Rate(int(_BYTES / seconds))
