"""The two queues of a device that copies ahead of a computation need, and how they copy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from qied.engine.copying.staging import Staging, staging_for

Parts: TypeAlias = Sequence[tuple[int, Tensor]]
"""What is gathered in one buffer: (offset in it, uint8 [n] in the host's memory)."""


class Streams(Protocol):
    """The two queues of a device that a ring works with: the computation's, and one for copies in parallel.

    An event that was never recorded is not waited for.
    """

    def event(self) -> Any: ...

    def copy(self, target: Tensor, parts: Parts) -> None:
        """Enqueue in the queue for copies that of ``parts`` to ``target``, uint8 [m]; between them it is undefined.

        Pinned memory is copied without the host waiting. Pageable memory has been read when this returns.
        """

    def copies_wait(self, event: Any) -> None:
        """Let later copies start after ``event``."""

    def record_copies(self, event: Any) -> None:
        """Let ``event`` happen when the copies enqueued so far are over."""

    def computation_waits(self, event: Any) -> None:
        """Let later computation start after ``event``."""

    def record_computation(self, event: Any) -> None:
        """Let ``event`` happen when the computation enqueued so far is over."""


def streams_of(device: torch.device) -> Streams:
    """Make the queues of a device: with a copy stream of their own on CUDA, and none on the CPU."""
    return CardStreams(device) if device.type == "cuda" else _AtOnce()


class CardStreams:
    """CUDA's: the current stream of ``device``, and a new one for copies. ``cuda`` is torch's module of that name."""

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        self._device = device
        self._cuda = cuda
        self._copies: Any = cuda.Stream(device)

    def event(self) -> Any:
        return self._cuda.Event()

    def copy(self, target: Tensor, parts: Parts) -> None:
        staging = None if all(host.is_pinned() for _, host in parts) else self._staging
        with torch.no_grad(), self._cuda.stream(self._copies):
            if staging is not None:
                staging.copy(target, parts)
            else:
                _one_by_one(target, parts)

    def copies_wait(self, event: Any) -> None:
        self._copies.wait_event(event)

    def record_copies(self, event: Any) -> None:
        event.record(self._copies)

    def computation_waits(self, event: Any) -> None:
        self._current().wait_event(event)

    def record_computation(self, event: Any) -> None:
        event.record(self._current())

    @cached_property
    def _staging(self) -> Staging | None:
        """Made when the first pageable memory comes; None where it cannot be made."""
        return staging_for(self._device)

    def _current(self) -> Any:
        return self._cuda.current_stream(self._device)


class _AtOnce:
    """The CPU's: everything is over when the call returns."""

    def event(self) -> None: ...

    def copy(self, target: Tensor, parts: Parts) -> None:
        with torch.no_grad():
            _one_by_one(target, parts)

    def copies_wait(self, event: Any) -> None: ...

    def record_copies(self, event: Any) -> None: ...

    def computation_waits(self, event: Any) -> None: ...

    def record_computation(self, event: Any) -> None: ...


def _one_by_one(target: Tensor, parts: Parts) -> None:
    for offset, host in parts:
        target[offset : offset + host.numel()].copy_(host, non_blocking=True)
