"""NVIDIA cards of this machine, counted through NVML, so without torch."""

from __future__ import annotations

import pynvml


def count_cards() -> int:
    """Cards that the driver shows; 0 without a driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return 0
    try:
        return int(pynvml.nvmlDeviceGetCount())
    finally:
        pynvml.nvmlShutdown()
