"""The modulation of one schedule: a table in the host's memory, and the rows of an edit's steps on the device."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import finalize

import torch
from torch import Tensor

from qied.engine.copying.copy_ring import CopyRing
from qied.engine.copying.host_memory import HostBuffer
from qied.engine.copying.streams import Streams
from qied.planning.layout.forward_layout import VALUES
from qied.planning.layout.memory import STEPS_HELD

STREAMS = 2
"""Of a block: image and text."""
ENDS = 2
"""Rows of the last norm: scale and shift."""


@dataclass(frozen=True)
class StepModulation:
    """One step's modulation on the device, in the compute type.

    ``target``, ``text`` and ``reference`` are [layers, 6, D]: shift, scale and gate of the attention, then of the MLP;
    references are modulated as at timestep 0, or like the target, as the model was trained. ``out`` [2, D] is scale
    and shift of the last norm. Target and text are views of one contiguous [layers, 2, 6, D].
    """

    target: Tensor
    text: Tensor
    reference: Tensor
    out: Tensor


@dataclass(frozen=True)
class TableShape:
    """Which numbers a table has: of so many steps and layers, ``inner`` (D) in a row."""

    steps: int
    layers: int
    inner: int
    dtype: torch.dtype

    @property
    def step_values(self) -> int:
        """Numbers of one step: [layers, 2, 6, D] of the blocks, then [2, D] of the last norm."""
        return (self.layers * STREAMS * VALUES + ENDS) * self.inner

    @property
    def nbytes(self) -> int:
        """Bytes of all steps, and of the rows of timestep 0 behind them."""
        return (self.steps * self.step_values + self.layers * VALUES * self.inner) * self.dtype.itemsize

    def split(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """The numbers [n, step_values] of n steps as views: [n, layers, 2, 6, D] and [n, 2, D]."""
        ends = ENDS * self.inner
        blocks = steps[:, :-ends].view(-1, self.layers, STREAMS, VALUES, self.inner)
        return blocks, steps[:, -ends:].view(-1, ENDS, self.inner)


class ModulationTable:
    """The modulation of a schedule in the host's memory, in the compute type.

    ``steps`` is [steps, layers, 2, 6, D] (target, text), ``out`` [steps, 2, D], ``reference`` [layers, 6, D]. They are
    views of ``bytes`` (uint8), in which all of one step lies together.
    """

    def __init__(self, shape: TableShape, buffer: HostBuffer) -> None:
        """Lay it out in ``buffer``, of the shape's bytes, with nothing in it yet."""
        self.shape = shape
        self.bytes = buffer.bytes
        # Pinned for as long as the table lives.
        self._buffer = buffer
        numbers = buffer.bytes.view(shape.dtype)
        steps = shape.steps * shape.step_values
        self.steps, self.out = shape.split(numbers[:steps].view(shape.steps, shape.step_values))
        self.reference = numbers[steps:].view(shape.layers, VALUES, shape.inner)

    @property
    def nbytes(self) -> int:
        """Bytes in the host's memory."""
        return self.bytes.nbytes

    def step_bytes(self, index: int) -> Tensor:
        """All of one step, uint8 [n]."""
        nbytes = self.shape.step_values * self.shape.dtype.itemsize
        return self.bytes[index * nbytes : (index + 1) * nbytes]


class StepRows:
    """The rows of an edit's steps on ``device``: where they are asked for in order, each is brought ahead of its use.

    The copies go through ``streams``, in parallel with the computation; the rows of timestep 0 are brought once, for a
    model whose references are modulated ``at_zero``. With a table in pinned memory the host waits for nothing.
    """

    def __init__(
        self, table: ModulationTable, device: torch.device, streams: Streams | None = None, *, at_zero: bool = True
    ) -> None:
        self._table = table
        self._reference = table.reference.to(device, non_blocking=True) if at_zero else None
        self._ring = CopyRing(device, table.step_bytes(0).nbytes, STEPS_HELD, streams)
        self._tickets: dict[int, int] = {}
        finalize(self, self._ring.reset).atexit = False

    @property
    def nbytes(self) -> int:
        """Bytes on the device, for as long as this object lives."""
        reference: int = 0 if self._reference is None else self._reference.nbytes
        return self._ring.nbytes + reference

    def step(self, index: int) -> StepModulation:
        """The rows of a step, counted from 0: for what is enqueued until the next one is asked for."""
        kept = (index, index + 1) if index in self._tickets else ()
        for step in [step for step in self._tickets if step not in kept]:
            self._ring.done(self._tickets.pop(step))
        for step in (index, index + 1):
            if step < self._table.shape.steps and step not in self._tickets:
                self._tickets[step] = self._ring.load(self._table.step_bytes(step))
        shape = self._table.shape
        numbers = self._ring.use(self._tickets[index]).view(shape.dtype)
        blocks, out = shape.split(numbers.view(1, shape.step_values))
        target, text = blocks[0, :, 0], blocks[0, :, 1]
        return StepModulation(target, text, target if self._reference is None else self._reference, out[0])
