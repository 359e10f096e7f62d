"""Modulation as a table: what the timesteps of a schedule make of the modulation weights, computed once.

Shift, scale and gate of every block depend on the timestep alone. The weights that give them, a third of the
transformer, are read block by block while a table is made, and never stay.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from qied.engine.sources import TensorSource, WeightReader, check_shape

TIMESTEPS = 1000
"""Timesteps of training: the transformer is told sigma * 1000 / 1000, rounded as diffusers rounds it."""

VALUES = 6
"""Rows of a block's modulation: shift, scale, gate of the attention, then of the MLP."""

BLOCKS_AT_ONCE = 10
"""Blocks between two yields: 2.3 GB of the full model's weights are read for them."""

_STREAMS = ("img_mod.1", "txt_mod.1")


@dataclass(frozen=True)
class StepModulation:
    """One step's modulation on the device, in the compute type.

    ``target``, ``text`` and ``reference`` are [layers, 6, D]: shift, scale and gate of the attention, then of the MLP;
    references are modulated as at timestep 0. ``out`` [2, D] is scale and shift of the last norm.
    """

    target: Tensor
    text: Tensor
    reference: Tensor
    out: Tensor


@dataclass(frozen=True)
class ModulationTable:
    """The modulation of a schedule in the host's memory, in the compute type.

    ``steps`` is [steps, layers, 2, 6, D] (target, text), ``reference`` [layers, 6, D], ``out`` [steps, 2, D].
    """

    steps: Tensor
    reference: Tensor
    out: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes in the host's memory."""
        return self.steps.nbytes + self.reference.nbytes + self.out.nbytes

    def step(self, index: int, device: torch.device, pin: bool) -> StepModulation:
        """Bring one step's rows to ``device``; ``pin`` copies by way of pinned memory, so that the host goes on."""
        rows, reference, out = (
            _moved(part, device, pin) for part in (self.steps[index], self.reference, self.out[index])
        )
        return StepModulation(rows[:, 0], rows[:, 1], reference, out)


def modulation_names(block: int) -> Iterator[str]:
    """Names in the checkpoint of the modulation weights of a block."""
    for stream in _STREAMS:
        yield f"transformer_blocks.{block}.{stream}.weight"
        yield f"transformer_blocks.{block}.{stream}.bias"


class Modulation:
    """Makes tables, and keeps the latest within ``limit_bytes`` of the host's memory: sessions share schedules.

    ``embedders`` is the transformer without its blocks, on ``device`` in the compute type ``dtype``; ``source`` has the
    blocks' modulation weights, for as long as this object lives.
    """

    def __init__(
        self,
        source: TensorSource,
        embedders: Any,
        layers: int,
        device: torch.device,
        dtype: torch.dtype,
        limit_bytes: int,
    ) -> None:
        self._source = source
        self._embedders = embedders
        self.layers = layers
        self._device = device
        self._dtype = dtype
        self._limit_bytes = limit_bytes
        self._tables: OrderedDict[tuple[float, ...], ModulationTable] = OrderedDict()

    @property
    def host_bytes(self) -> int:
        """Bytes of the tables that are kept."""
        return sum(table.nbytes for table in self._tables.values())

    def check(self, reader: WeightReader, block: int) -> None:
        """Look at the modulation weights of a block; raises ModelUnsupported where one has another shape."""
        inner = self._embedders.inner_dim
        for name in modulation_names(block):
            shape = (VALUES * inner, inner) if name.endswith("weight") else (VALUES * inner,)
            check_shape(self._source, name, reader.read(self._source, name), shape)

    def table(self, sigmas: Tensor) -> Generator[tuple[int, int], None, ModulationTable]:
        """Make the table of the forwards at ``sigmas`` (FP32 [steps], the final 0 not among them), unless it is kept.

        Yields (blocks done, blocks in all) after each ``BLOCKS_AT_ONCE``, since a new table takes seconds.
        """
        key = tuple(sigmas.tolist())
        table = self._tables.pop(key, None)
        if table is None:
            table = yield from self._computed(sigmas)
        self._keep(key, table)
        return table

    def _keep(self, key: tuple[float, ...], table: ModulationTable) -> None:
        if table.nbytes > self._limit_bytes:
            return
        while self.host_bytes + table.nbytes > self._limit_bytes:
            self._tables.popitem(last=False)
        self._tables[key] = table

    def _computed(self, sigmas: Tensor) -> Generator[tuple[int, int], None, ModulationTable]:
        steps, inner = len(sigmas), self._embedders.inner_dim
        activated = functional.silu(self._embedding(sigmas))
        rows = torch.empty(steps, self.layers, len(_STREAMS), VALUES, inner, dtype=self._dtype)
        reference = torch.empty(self.layers, VALUES, inner, dtype=self._dtype)
        for block in range(self.layers):
            image, text = (
                self._linear(activated, f"transformer_blocks.{block}.{stream}").view(-1, VALUES, inner)
                for stream in _STREAMS
            )
            rows[:, block, 0] = image[:-1]
            rows[:, block, 1] = text[:-1]
            reference[block] = image[-1]
            if (block + 1) % BLOCKS_AT_ONCE == 0 or block + 1 == self.layers:
                yield block + 1, self.layers
        out = self._embedders.norm_out.linear(activated[:-1]).view(-1, 2, inner)
        return ModulationTable(rows, reference, out.cpu())

    def _embedding(self, sigmas: Tensor) -> Tensor:
        """Embeddings [steps + 1, D] of the timesteps and, last, of timestep 0; rounded to the compute type first."""
        times = ((sigmas * TIMESTEPS) / TIMESTEPS).to(self._device).to(self._dtype)
        times = torch.cat([times, times[:1] * 0])
        embedding: Tensor = self._embedders.time_text_embed(times, torch.empty(0, dtype=self._dtype))
        return embedding

    def _linear(self, activated: Tensor, name: str) -> Tensor:
        weight, bias = (
            self._source.read(f"{name}.{part}").to(self._device, self._dtype) for part in ("weight", "bias")
        )
        return functional.linear(activated, weight, bias).cpu()


def _moved(part: Tensor, device: torch.device, pin: bool) -> Tensor:
    if pin and device.type == "cuda":
        return part.pin_memory().to(device, non_blocking=True)
    return part.to(device)
