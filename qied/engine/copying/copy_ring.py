"""A ring of device buffers that host memory is copied into ahead of its use, in parallel with the computation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from qied.engine.copying.streams import Streams, streams_of


class CopyRing:
    """``slots`` buffers of ``slot_bytes`` (uint8) on ``device``, filled in turn on a copy stream of their own.

    Every load gives a ticket; a ticket is used any number of times and then done, which frees its slot for the load
    that comes ``slots`` tickets later. On a CUDA device the streams wait for each other and the host does not; on the
    CPU copies happen at once. Wrong order is an AssertionError. Call :meth:`reset` before dropping a ring, since its
    memory goes back to the stream that allocated it while a copy may still be writing there.
    """

    def __init__(self, device: torch.device, slot_bytes: int, slots: int, streams: Streams | None = None) -> None:
        """``streams`` may be shared with other rings of the device; without them, the ring has a copy stream alone."""
        assert slot_bytes > 0 and slots > 0
        self.slot_bytes = slot_bytes
        # Outside inference mode, since a ring made inside it could be filled nowhere else.
        with torch.inference_mode(False):
            buffers = [torch.empty(slot_bytes, dtype=torch.uint8, device=device) for _ in range(slots)]
        self._streams = streams or streams_of(device)
        self._slots = [_Slot(buffer, self._streams) for buffer in buffers]
        for slot in self._slots:
            # The allocator may have handed out memory that computation enqueued before still reads.
            self._streams.record_computation(slot.last_use)
        self._next = 0

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

        The ticket's bytes end where the last part ends. Where a copy fails, the slot is free again, after the others.
        """
        slot = self._slots[self._next % len(self._slots)]
        assert slot.state == "free", "every slot is loaded and not done"
        assert all(host.dtype == torch.uint8 and host.dim() == 1 for _, host in parts)
        end = max(offset + host.numel() for offset, host in parts)
        assert end <= self.slot_bytes, f"{end} bytes do not fit a slot of {self.slot_bytes}"
        self._streams.copies_wait(slot.last_use)
        slot.state, slot.ticket, slot.filled = "loaded", self._next, end
        try:
            self._streams.copy(slot.buffer, parts)
        except BaseException:
            self._streams.record_copies(slot.copied)
            self.done(slot.ticket)
            raise
        self._streams.record_copies(slot.copied)
        self._next += 1
        return slot.ticket

    def use(self, ticket: int) -> Tensor:
        """Make the current stream wait for the copy; returns it as uint8 [n] on the device, valid until it is done."""
        slot = self._slot(ticket)
        self._streams.computation_waits(slot.copied)
        return slot.buffer[: slot.filled]

    def done(self, ticket: int) -> None:
        """Tell that the current stream has enqueued its last use of the ticket: its slot may be overwritten."""
        slot = self._slot(ticket)
        slot.state = "free"
        # A copy that nobody used must still be over before the slot is overwritten or its memory given back.
        self._streams.computation_waits(slot.copied)
        self._streams.record_computation(slot.last_use)

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

    def __init__(self, buffer: Tensor, streams: Streams) -> None:
        self.buffer = buffer
        self.state: Literal["free", "loaded"] = "free"
        self.ticket = -1
        self.filled = 0
        self.copied = streams.event()
        self.last_use = streams.event()
