"""What a torch error means: out of memory, or a device whose context is lost."""

from __future__ import annotations

import errno
import re

import torch

from qied.link.engine_port import DeviceLost

_EXHAUSTED = re.compile(
    r"out of memory|can't allocate memory|not enough memory|Cannot allocate memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_\w*ALLOC\w*",
    re.IGNORECASE,
)


def is_exhausted(error: BaseException) -> bool:
    """Tell whether memory ran out, of the device or of the host.

    Besides torch's own OutOfMemoryError: what the driver, cuBLAS and cuDNN allocate for themselves, torch's allocator
    of the CPU, Python, and a file that could not be mapped. Some of them are known by their text alone.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and _EXHAUSTED.search(str(error)) is not None


def is_lost(error: BaseException, device: torch.device) -> bool:
    """Tell whether ``device`` no longer computes after ``error``; waits for what is under way.

    An illegal address or a failed device assertion ends a CUDA context: every later call fails with the same error.
    """
    if device.type != "cuda" or not isinstance(error, RuntimeError) or isinstance(error, torch.OutOfMemoryError):
        return False
    try:
        torch.cuda.synchronize(device)
        return float(torch.ones(1, device=device).sum()) != 1
    except RuntimeError as second:
        return not is_exhausted(second)


def raise_if_lost(error: BaseException, device: torch.device) -> None:
    """Raise DeviceLost if no edit of this process can continue after ``error``; see :func:`is_lost`."""
    if is_lost(error, device):
        raise DeviceLost(f"{device} no longer answers: {error}") from error
