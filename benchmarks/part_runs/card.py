"""Memory of the card that is measured, as the driver counts it."""

from __future__ import annotations

import os

import pynvml


def card_used() -> int:
    """Bytes in use, by whomever, on the first card that this process sees."""
    pynvml.nvmlInit()
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    by_uuid = first.startswith(("GPU-", "MIG-"))
    handle = pynvml.nvmlDeviceGetHandleByUUID(first) if by_uuid else pynvml.nvmlDeviceGetHandleByIndex(int(first or 0))
    return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
