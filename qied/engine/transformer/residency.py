"""Which blocks stay on the device and which stream through it, and the blocks in the order of a forward."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from weakref import finalize

import torch
from torch import Tensor

from qied.engine.block.packed import BlockWeights, block_tensors, block_weights
from qied.engine.block.stored import StoredBlock, expand_block
from qied.engine.copying.copy_ring import CopyRing
from qied.engine.copying.host_memory import HostBuffer, host_buffers
from qied.engine.weights.stored_weight import StoredWeight
from qied.planning.layout.block_layout import BlockLayout
from qied.planning.plan import Execution


def resident_blocks(total: int, resident: int) -> frozenset[int]:
    """Choose which blocks stay: spread evenly, so that copies of the others have the most time to hide in."""
    return frozenset(block for block in range(total) if (block + 1) * resident // total > block * resident // total)


class Blocks:
    """All blocks of a transformer: resident ones on the device, the others in the host's memory behind a ring.

    Every forward visits all blocks in order, so the next streamed one is always known: the ring is kept full across
    the ends of forwards, whichever edit comes next, and through idle times. From pageable
    memory one slot stays free until the block in another is under way, since the host waits for such copies.
    """

    def __init__(
        self,
        layout: BlockLayout,
        execution: Execution,
        device: torch.device,
        stored: Callable[[Iterable[int]], Mapping[int, StoredBlock]] | None = None,
    ) -> None:
        """Allocate, with nothing in it yet. With ``stored``, streamed blocks stay as their file has them."""
        self.layout = layout
        self._device = device
        kept = resident_blocks(execution.total_blocks, execution.resident_blocks)
        self._order = range(execution.total_blocks)
        self._resident = {block: torch.empty(layout.nbytes, dtype=torch.uint8, device=device) for block in sorted(kept)}
        streamed = [block for block in self._order if block not in kept]
        self.stored: Mapping[int, StoredBlock] = stored(streamed) if stored is not None else {}
        self._slot_bytes = max((block.nbytes for block in self.stored.values()), default=layout.nbytes)
        buffers = host_buffers(len(streamed), self._slot_bytes, device, execution.pin)
        self._streamed: dict[int, HostBuffer] = dict(zip(streamed, buffers, strict=True))
        slots = min(execution.ring_slots, len(streamed))
        assert slots > 0 or not streamed, "streamed blocks need a ring"
        self.ring = CopyRing(device, self._slot_bytes, slots) if slots else None
        self._expanded = torch.empty(layout.nbytes if self.stored else 0, dtype=torch.uint8, device=device)
        self._expanded_tensors = block_tensors(layout, self._expanded) if self.stored else {}
        self._slot_views: dict[tuple[int, int], dict[str, StoredWeight]] = {}
        # The host waits while it copies from pageable memory, so that is left until the block before is under way.
        self._waits = slots > 1 and not all(buffer.pinned for buffer in buffers)
        self._ahead = slots - 1 if self._waits else slots
        self._upcoming = list(self._streamed)
        self._next = 0
        self._tickets: deque[int] = deque()
        self._views: dict[int, BlockWeights] = {}
        if self.ring:
            finalize(self, _drain, self.ring, device).atexit = False

    @property
    def device_bytes(self) -> int:
        """Bytes on the device: resident blocks, the ring, and what a stored block is expanded to."""
        ring = self.ring.nbytes if self.ring else 0
        return len(self._resident) * self.layout.nbytes + ring + self._expanded.nbytes

    @property
    def host_bytes(self) -> int:
        """Bytes of the streamed blocks in the host's memory."""
        return len(self._streamed) * self._slot_bytes

    def buffers(self) -> Iterator[Tensor]:
        """The buffer of each block in order, wherever it lies: to be filled once.

        It is uint8 [layout.nbytes], or as large as the largest one of ``stored``.
        """
        for block in self._order:
            yield self._resident[block] if block in self._resident else self._streamed[block].bytes

    @contextmanager
    def sweep(self) -> Iterator[Iterator[BlockWeights]]:
        """The blocks of one forward in order; each is valid until the next one is asked for.

        Where the forward is left early, for an error or not, the ring starts afresh.
        """
        weights = self._visit()
        left_early = True
        try:
            yield weights
            left_early = next(weights, None) is not None
        finally:
            if left_early:
                weights.close()
                self._reset()

    def _visit(self) -> Generator[BlockWeights, None, None]:
        self._fill()
        for block in self._order:
            if block in self._resident:
                yield self._viewed(self._resident[block])
            else:
                assert self.ring is not None
                ticket = self._tickets.popleft()
                slot = self.ring.use(ticket)
                if block in self.stored:
                    self._expand(block, slot)
                    slot = self._expanded
                yield self._viewed(slot)
                if self._waits:
                    self._fill()
                self.ring.done(ticket)
                self._fill()

    def _expand(self, block: int, slot: Tensor) -> None:
        """Make of a stored block what forwards take; it is the last one's place, which they have left by then."""
        stored, key = self.stored[block], (block, slot.data_ptr())
        if key not in self._slot_views:
            self._slot_views[key] = stored.weights(slot)
        expand_block(stored, self._slot_views[key], self._expanded_tensors, self._device)

    def _fill(self) -> None:
        while self.ring is not None and len(self._tickets) < self._ahead:
            block = self._upcoming[self._next]
            end = self.stored[block].nbytes if block in self.stored else self._slot_bytes
            self._tickets.append(self.ring.load(self._streamed[block].bytes[:end]))
            self._next = (self._next + 1) % len(self._upcoming)

    def _reset(self) -> None:
        if self.ring is not None:
            self.ring.reset()
        self._tickets.clear()
        self._next = 0

    def _viewed(self, buffer: Tensor) -> BlockWeights:
        """The buffer as a block; kept, since making the views of every block takes milliseconds a forward."""
        address = buffer.data_ptr()
        if address not in self._views:
            self._views[address] = block_weights(self.layout, buffer)
        return self._views[address]


def _drain(ring: CopyRing, device: torch.device) -> None:
    """Let no copy be under way when the memory that it reads or writes is given back."""
    ring.reset()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
