"""Torch's errors that mean out of memory or a lost device: how they are recognised, and how an edit ends by them."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import torch
from qied_client.errors import OutOfMemory

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


class RunsOnDevice(Protocol):
    """Work of which an error makes an end."""

    device: torch.device

    def close(self) -> None:
        """Let go of everything that is held."""


P = ParamSpec("P")
T = TypeVar("T")
W = TypeVar("W", bound=RunsOnDevice)


def guarded(unit: Callable[Concatenate[W, P], T]) -> Callable[Concatenate[W, P], T]:
    """Make a method raise OutOfMemory or DeviceLost for torch's errors of that kind; any error closes its object."""

    @wraps(unit)
    def guard(work: W, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with torch.inference_mode():
                return unit(work, *args, **kwargs)
        except BaseException as error:
            work.close()
            raise_if_lost(error, work.device)
            if not is_exhausted(error):
                raise
            exhausted = str(error)
        # Raised only here, so that the error does not keep the failed frames and their tensors alive.
        raise OutOfMemory(f"Memory ran out: {exhausted}", "Ask for a smaller picture.")

    return guard
