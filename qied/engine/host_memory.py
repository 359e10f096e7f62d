"""Buffers in the host's memory that the device copies from."""

from __future__ import annotations

import weakref

import torch
from qied_client.errors import ConfigError
from torch import Tensor


class HostBuffer:
    """``bytes`` uint8 [nbytes] in the host's memory, pinned for as long as this object lives where that was asked.

    Pinned means registered with the driver, since what torch itself pins is rounded up to a power of two: 512 MiB for
    a block of 432. Drop the buffer only when no copy from it is under way.
    """

    def __init__(self, nbytes: int, pin: bool) -> None:
        """Allocate; raises ConfigError where the system does not let so much be pinned."""
        self.bytes = torch.empty(nbytes, dtype=torch.uint8)
        if not pin or not torch.cuda.is_available():
            return
        status = int(torch.cuda.cudart().cudaHostRegister(self.bytes.data_ptr(), nbytes, 0))  # type: ignore[no-untyped-call]
        if status != 0:
            raise ConfigError(
                f"{nbytes} bytes of the host's memory could not be pinned: CUDA error {status}.",
                "Free memory, or serve without pinned memory.",
            )
        # At the end of the process the driver does it by itself, and may be gone already.
        weakref.finalize(self, _unregister, self.bytes).atexit = False


def _unregister(buffer: Tensor) -> None:
    torch.cuda.cudart().cudaHostUnregister(buffer.data_ptr())  # type: ignore[no-untyped-call]
