"""Modulation as a table: the modulation weights applied to the timesteps of a schedule, computed once.

Shift, scale and gate of every block depend on the timestep alone. The weights that give them, a third of the
transformer, are read block by block while a table is made, and never stay.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.nn import functional

from qied.engine.copying.host_memory import host_buffers
from qied.engine.transformer.modulation_cache import KeptTables
from qied.engine.transformer.modulation_table import ModulationTable, TableShape
from qied.engine.weights.sources import TensorSource, WeightReader, check_shape
from qied.planning.layout.forward_layout import VALUES

TIMESTEPS = 1000
"""Timesteps of training: the transformer gets sigma * 1000 / 1000, rounded as diffusers rounds it."""

BLOCKS_AT_ONCE = 10
"""Blocks between two yields: 2.3 GB of the full model's weights are read for them."""

_STREAMS = ("img_mod.1", "txt_mod.1")
_LAST_NORM = "norm_out.linear"
_TIMES = ("time_text_embed.timestep_embedder.linear_1", "time_text_embed.timestep_embedder.linear_2")
_Schedule = tuple[float, ...]
_Key = tuple[_Schedule, tuple[Hashable, ...]]
"""What a table is known by: its schedule, and the LoRAs in it."""


@dataclass(eq=False)
class _Draft:
    """A table of which ``done`` blocks are filled; ``activated`` [steps + 1, D] is what its linears take in."""

    table: ModulationTable
    activated: Tensor
    done: int = 0


def modulation_names(block: int) -> Iterator[str]:
    """Names in the checkpoint of the modulation weights of a block."""
    for stream in _STREAMS:
        yield f"transformer_blocks.{block}.{stream}.weight"
        yield f"transformer_blocks.{block}.{stream}.bias"


class ModulationLora(Protocol):
    """A LoRA that changes the modulation, at the strength of an edit."""

    @property
    def key(self) -> Hashable:
        """What tells it from every other LoRA and strength."""

    @property
    def changes_time(self) -> bool:
        """Whether it changes the embedding of the time itself."""

    def add_to(self, outputs: Tensor, x: Tensor, block: int | None, module: str) -> None:
        """Add its share of the linear ``module`` at ``x`` [rows, inputs] to ``outputs`` in place.

        ``block`` is None for the last norm's linear and those of the time's embedding, which are in no block.
        """


class Modulation:
    """Makes tables, and keeps the latest within ``limit_bytes`` of the host's memory: sessions share schedules.

    There is one table of a schedule and its LoRAs at most: one that edits still hold is found again after it had to
    make room, and edits that want the same new one make it together. Beyond the limit there is only what running edits
    hold.

    ``embedders`` is the transformer without its blocks, on ``device`` in the compute type ``dtype``; ``source`` has the
    blocks' modulation weights, for as long as this object lives. With ``pin`` tables lie in pinned memory; where the
    system does not allow it, that is logged once. Tables without LoRAs are ``kept`` on disk as well.
    """

    def __init__(
        self,
        source: TensorSource,
        embedders: Any,
        layers: int,
        device: torch.device,
        dtype: torch.dtype,
        limit_bytes: int,
        *,
        pin: bool = False,
        kept: KeptTables | None = None,
    ) -> None:
        self._source = source
        self._embedders = embedders
        self.layers = layers
        self._device = device
        self._dtype = dtype
        self._limit_bytes = limit_bytes
        self._pin = pin and device.type == "cuda"
        self._on_disk = kept
        self._kept: OrderedDict[_Key, ModulationTable] = OrderedDict()
        self._alive: WeakValueDictionary[_Key, ModulationTable] = WeakValueDictionary()
        self._drafts: WeakValueDictionary[_Key, _Draft] = WeakValueDictionary()

    @property
    def host_bytes(self) -> int:
        """Bytes of all tables: those that are kept, those that edits hold, and those that are being made."""
        drafts = [draft for key, draft in self._drafts.items() if key not in self._alive]
        return sum(table.nbytes for table in (*self._alive.values(), *(draft.table for draft in drafts)))

    def check(self, reader: WeightReader, block: int) -> None:
        """Look at the modulation weights of a block; raises ModelUnsupported where one has another shape."""
        inner = self._embedders.inner_dim
        for name in modulation_names(block):
            shape = (VALUES * inner, inner) if name.endswith("weight") else (VALUES * inner,)
            check_shape(self._source, name, reader.stored(self._source, name), shape)

    def table(
        self, sigmas: Tensor, loras: Sequence[ModulationLora] = ()
    ) -> Generator[tuple[int, int], None, ModulationTable]:
        """Make the table of the forwards at ``sigmas`` (FP32 [steps], the final 0 not among them), unless it is kept.

        Yields (blocks done, blocks in all) after each ``BLOCKS_AT_ONCE``, since a new table takes seconds.
        """
        key: _Key = tuple(sigmas.tolist()), tuple(lora.key for lora in loras)
        table = self._alive.get(key)
        if table is None:
            table = yield from self._finished(key, sigmas, loras)
        self._keep(key, table)
        return table

    def _keep(self, key: _Key, table: ModulationTable) -> None:
        self._kept.pop(key, None)
        self._make_room(table.nbytes)
        if table.nbytes <= self._limit_bytes:
            self._kept[key] = table

    def _make_room(self, nbytes: int) -> None:
        """Let go of the least recently used tables until ``nbytes`` more are within the limit, or could never be."""
        if nbytes > self._limit_bytes:
            return
        while sum(table.nbytes for table in self._kept.values()) + nbytes > self._limit_bytes:
            self._kept.popitem(last=False)

    def _finished(
        self, key: _Key, sigmas: Tensor, loras: Sequence[ModulationLora]
    ) -> Generator[tuple[int, int], None, ModulationTable]:
        """Read the table, or take part in making it; each caller makes the next blocks, for all."""
        on_disk = None if loras else self._on_disk
        draft = self._drafts.get(key)
        if draft is None:
            table = self._allocated(len(sigmas))
            if on_disk is not None and on_disk.read(sigmas, table):
                self._alive[key] = table
                return table
            draft = self._drafts[key] = self._begun(table, sigmas, loras)
        while draft.done < self.layers:
            stop = min(draft.done + BLOCKS_AT_ONCE, self.layers)
            for block in range(draft.done, stop):
                self._fill(draft, block, loras)
            draft.done = stop
            if on_disk is not None and stop == self.layers:
                on_disk.keep(sigmas, draft.table)
            yield stop, self.layers
        self._alive[key] = draft.table
        return draft.table

    def _allocated(self, steps: int) -> ModulationTable:
        """A table with nothing in it yet."""
        shape = TableShape(steps, self.layers, self._embedders.inner_dim, self._dtype)
        # Before the new one is allocated, so that the two are not there at once.
        self._make_room(shape.nbytes)
        (buffer,) = host_buffers(1, shape.nbytes, self._device, self._pin)
        self._pin = buffer.pinned
        return ModulationTable(shape, buffer)

    def _begun(self, table: ModulationTable, sigmas: Tensor, loras: Sequence[ModulationLora]) -> _Draft:
        activated = functional.silu(self._embedding(sigmas, [lora for lora in loras if lora.changes_time]))
        out = self._embedders.norm_out.linear(activated[:-1])
        for lora in loras:
            lora.add_to(out, activated[:-1], None, _LAST_NORM)
        table.out.copy_(out.view(table.out.shape))
        return _Draft(table, activated)

    def _fill(self, draft: _Draft, block: int, loras: Sequence[ModulationLora]) -> None:
        image, text = (
            self._outputs(draft.activated, block, stream, loras).view(-1, *draft.table.reference.shape[1:])
            for stream in _STREAMS
        )
        draft.table.steps[:, block, 0] = image[:-1]
        draft.table.steps[:, block, 1] = text[:-1]
        draft.table.reference[block] = image[-1]

    def _embedding(self, sigmas: Tensor, loras: Sequence[ModulationLora]) -> Tensor:
        """Embeddings [steps + 1, D] of the timesteps and, last, of timestep 0; rounded to the compute type first."""
        times = ((sigmas * TIMESTEPS) / TIMESTEPS).to(self._device).to(self._dtype)
        times = torch.cat([times, times[:1] * 0])
        embed = self._embedders.time_text_embed
        embedding: Tensor
        if not loras:
            embedding = embed(times, torch.empty(0, dtype=self._dtype))
            return embedding
        # What diffusers' module computes, linear by linear.
        embedding = embed.time_proj(times).to(self._dtype)
        for linear, name in zip(("linear_1", "linear_2"), _TIMES, strict=True):
            x = embedding if linear == "linear_1" else embed.timestep_embedder.act(embedding)
            embedding = getattr(embed.timestep_embedder, linear)(x)
            for lora in loras:
                lora.add_to(embedding, x, None, name)
        return embedding

    def _outputs(self, activated: Tensor, block: int, module: str, loras: Sequence[ModulationLora]) -> Tensor:
        outputs = self._linear(activated, f"transformer_blocks.{block}.{module}")
        for lora in loras:
            lora.add_to(outputs, activated, block, module)
        return outputs.cpu()

    def _linear(self, activated: Tensor, name: str) -> Tensor:
        weight, bias = (
            self._source.stored(f"{name}.{part}").copied(self._device, self._dtype) for part in ("weight", "bias")
        )
        return functional.linear(activated, weight, bias)
