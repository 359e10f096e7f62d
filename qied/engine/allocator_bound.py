"""Torch's allocator bounded by the plan, so that a mistake hits qied and not other programs on its card."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from qied.planning.plan import Execution


class DeviceMemory(Protocol):
    """The part of torch.cuda that bounds memory."""

    def get_device_properties(self, index: int) -> Any:
        """Facts of a card; ``total_memory`` is its bytes."""

    def set_per_process_memory_fraction(self, fraction: float, index: int) -> None:
        """Let the allocator of this process take so much of a card."""


def bound_allocator(execution: Execution, cards: DeviceMemory = torch.cuda) -> None:
    """Let torch take ``allocator_bytes`` of its card at most; asking for more raises torch's OutOfMemoryError.

    Without such a bound in the plan, and on the CPU, nothing is bounded.
    """
    if execution.device != "cuda" or not execution.allocator_bytes:
        return
    total = cards.get_device_properties(execution.device_index).total_memory
    cards.set_per_process_memory_fraction(min(1.0, execution.allocator_bytes / total), execution.device_index)
