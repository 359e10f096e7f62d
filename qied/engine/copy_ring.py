"""A ring of device buffers that host memory is copied into ahead of its use, beside the computation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor


class CopyRing:
    """``slots`` buffers of ``slot_bytes`` (uint8) on ``device``, filled in turn on a copy stream of their own.

    Every load gives a ticket; a ticket is used any number of times and then done, which frees its slot for the load
    that comes ``slots`` tickets later. On a CUDA device the streams wait for each other and the host does not; on the
    CPU copies happen at once. Wrong order is an AssertionError. Call :meth:`reset` before dropping a ring, since its
    memory goes back to the stream that allocated it while a copy may still be writing there.
    """

    def __init__(self, device: torch.device, slot_bytes: int, slots: int) -> None:
        assert slot_bytes > 0 and slots > 0
        self.slot_bytes = slot_bytes
        # Outside inference mode, since a ring made inside it could be filled nowhere else.
        with torch.inference_mode(False):
            self._slots = [_Slot(device, slot_bytes) for _ in range(slots)]
        self._device = device
        self._copy_stream: torch.cuda.Stream | None = None
        self._next = 0
        if device.type == "cuda":
            self._copy_stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            # The allocator may have handed out memory that kernels on the current stream still read.
            self._copy_stream.wait_stream(torch.cuda.current_stream(device))

    @property
    def nbytes(self) -> int:
        """Bytes of all slots on the device."""
        return self.slot_bytes * len(self._slots)

    def load(self, host: Tensor) -> int:
        """Enqueue the copy of ``host`` (uint8 [n], n at most ``slot_bytes``, pinned or not) and return its ticket.

        The copy starts after the slot's last use. Pinned memory is copied without the host waiting; it must not change
        until the copy is used. Pageable memory has been read when this returns.
        """
        return self.load_parts([(0, host)])

    def load_parts(self, parts: Sequence[tuple[int, Tensor]]) -> int:
        """Like :meth:`load`, gathering ``parts`` (offset in the slot, uint8 [n]); what lies between them is undefined.

        The ticket's bytes end where the last part ends.
        """
        slot = self._slots[self._next % len(self._slots)]
        assert slot.state == "free", "every slot is loaded and not done"
        end = max(offset + host.numel() for offset, host in parts)
        assert end <= self.slot_bytes, f"{end} bytes do not fit a slot of {self.slot_bytes}"
        if self._copy_stream is not None:
            self._copy_stream.wait_event(slot.last_use)
        with torch.no_grad(), torch.cuda.stream(self._copy_stream) if self._copy_stream else nullcontext():
            for offset, host in parts:
                assert host.dtype == torch.uint8 and host.dim() == 1
                slot.buffer[offset : offset + host.numel()].copy_(host, non_blocking=True)
        if self._copy_stream is not None:
            slot.copied.record(self._copy_stream)
        ticket, self._next = self._next, self._next + 1
        slot.state, slot.ticket, slot.filled = "loaded", ticket, end
        return ticket

    def use(self, ticket: int) -> Tensor:
        """Make the current stream wait for the copy; returns it as uint8 [n] on the device, valid until it is done."""
        slot = self._slot(ticket)
        if self._copy_stream is not None:
            torch.cuda.current_stream(self._device).wait_event(slot.copied)
        return slot.buffer[: slot.filled]

    def done(self, ticket: int) -> None:
        """Tell that the current stream has enqueued its last use of the ticket: its slot may be overwritten."""
        slot = self._slot(ticket)
        slot.state = "free"
        if self._copy_stream is not None:
            current = torch.cuda.current_stream(self._device)
            # A copy that nobody used must still be over before the slot is overwritten or its memory given back.
            current.wait_event(slot.copied)
            slot.last_use.record(current)

    def reset(self) -> None:
        """Free every slot and forget all tickets, used or not; the current stream waits for the copies under way."""
        for slot in self._slots:
            if slot.state == "loaded":
                self.done(slot.ticket)

    def _slot(self, ticket: int) -> _Slot:
        slot = self._slots[ticket % len(self._slots)]
        assert slot.ticket == ticket and slot.state == "loaded", f"ticket {ticket} is done, or was never given"
        return slot


class _Slot:
    """One buffer, what it holds, and when it was last written and read on the device."""

    def __init__(self, device: torch.device, nbytes: int) -> None:
        self.buffer = torch.empty(nbytes, dtype=torch.uint8, device=device)
        self.state: Literal["free", "loaded"] = "free"
        self.ticket = -1
        self.filled = 0
        if device.type == "cuda":
            # An event that was never recorded is not waited for.
            self.copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.last_use = torch.cuda.Event()  # type: ignore[no-untyped-call]
