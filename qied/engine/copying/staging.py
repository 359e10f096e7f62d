"""Copies from pageable memory, through pieces of pinned memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any, Protocol
from weakref import finalize

import torch
from torch import Tensor

from qied.engine.copying.host_memory import host_buffers

PIECE_BYTES = 8 << 20
PIECES = 4
"""One H100 with 16 cores took 45 to 52 GB/s, 42 to 46 in 2 pieces of 16 MiB, and 6 to 9 by the driver's own copies."""


class Event(Protocol):
    """A moment of the current stream, as torch.cuda.Event has it; one that was never recorded is not waited for."""

    def record(self) -> Any:
        """Let it happen when what is enqueued so far is over."""

    def synchronize(self) -> Any:
        """Let the host wait for it."""


class Staging:
    """Takes pageable memory to a device in pieces: all of torch's threads fill one while another is on its way.

    The driver does the same with one thread and pieces of its own, at a fraction of the speed of the bus.
    """

    def __init__(self, pieces: Sequence[Tensor], event: Callable[[], Event]) -> None:
        """``pieces`` are uint8 [n] of one size in the host's memory, pinned where a device copies by itself."""
        assert len({len(piece) for piece in pieces}) == 1
        self._nbytes = len(pieces[0])
        self._pieces = tuple(pieces)
        self._turns = cycle([(piece, event()) for piece in pieces])

    def copy(self, target: Tensor, parts: Sequence[tuple[int, Tensor]]) -> None:
        """Enqueue in the current stream the copy of ``parts`` (offset in ``target``, uint8 [n]) to ``target``, uint8.

        All of them have been read when this returns. What lies between them in ``target`` is undefined afterwards.
        """
        spans = [(offset, offset + host.numel(), host) for offset, host in parts]
        end = max(last for _, last, _ in spans)
        for begin in range(min(first for first, _, _ in spans), end, self._nbytes):
            stop = min(begin + self._nbytes, end)
            piece, taken = next(self._turns)
            taken.synchronize()
            for offset, past, host in spans:
                first, last = max(offset, begin), min(past, stop)
                if first < last:
                    piece[first - begin : last - begin].copy_(host[first - offset : last - offset])
            target[begin:stop].copy_(piece[: stop - begin], non_blocking=True)
            taken.record()


def staging_for(device: torch.device) -> Staging | None:
    """Staging for a CUDA device; None where the system does not let its pieces be pinned.

    They are pinned even if blocks are not: a limit that refuses gigabytes may allow 32 MiB.
    """
    # Outside inference mode, since pieces made inside it could be filled nowhere else.
    with torch.inference_mode(False):
        buffers = host_buffers(PIECES, PIECE_BYTES, device, pin=True)
    if not all(buffer.pinned for buffer in buffers):
        return None
    staging = Staging([buffer.bytes for buffer in buffers], torch.cuda.Event)
    # They stay pinned for as long as their buffers live.
    finalize(staging, buffers.clear).atexit = False
    return staging
