"""Buffers in the host's memory that the device copies from."""

from __future__ import annotations

import weakref
from contextlib import suppress

import structlog
import torch
from torch import Tensor


class HostBuffer:
    """``bytes`` uint8 [nbytes] in the host's memory, pinned for as long as this object lives where that was asked.

    Pinned means registered with the driver, since what torch itself pins is rounded up to a power of two: 512 MiB for
    a block of 432. Where the system does not let so much be pinned, it stays pageable (``pinned`` tells): copies are
    slower then, and right all the same. Drop the buffer only when no copy from it is under way.
    """

    def __init__(self, nbytes: int, pin: bool) -> None:
        self.bytes = torch.empty(nbytes, dtype=torch.uint8)
        self.pinned = pin and torch.cuda.is_available() and _register(self.bytes)
        if self.pinned:
            # At the end of the process the driver does it by itself, and may be gone already.
            weakref.finalize(self, _unregister, self.bytes).atexit = False


def _register(buffer: Tensor) -> bool:
    """Pin a buffer; False, with a word in the log, where the system does not allow it."""
    status = int(torch.cuda.cudart().cudaHostRegister(buffer.data_ptr(), buffer.nbytes, 0))  # type: ignore[no-untyped-call]
    if status == 0:
        return True
    _forget_error()
    structlog.get_logger(part="host memory").warning(
        "memory could not be pinned, so copies to the card are slower", bytes=buffer.nbytes, cuda_error=status
    )
    return False


def _forget_error() -> None:
    """Take CUDA's record of the refusal away, or the next kernel would be blamed for it."""
    with suppress(RuntimeError):
        torch.zeros(1, device="cuda")


def _unregister(buffer: Tensor) -> None:
    torch.cuda.cudart().cudaHostUnregister(buffer.data_ptr())  # type: ignore[no-untyped-call]
