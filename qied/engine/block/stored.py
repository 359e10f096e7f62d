"""A streamed block as its file keeps it: one flat buffer of stored tensors, expanded on the device before each use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from qied.engine.block.packed import fill_block, stored_shapes
from qied.engine.block.views import views
from qied.engine.weights.sources import TensorSource, WeightReader, check_shape
from qied.engine.weights.stored_weight import StoredWeight
from qied.planning.layout.block_layout import ALIGNMENT, BlockLayout


@dataclass(frozen=True)
class StoredField:
    """A stored tensor in the buffer, by its name in the checkpoint; of GGUF's blocks of a ``kind``, if of any."""

    name: str
    offset: int
    shape: torch.Size
    dtype: torch.dtype
    kind: str | None


@dataclass(frozen=True)
class StoredBlock:
    """Where everything of one block lies in a buffer of ``nbytes``; the types of its tensors are those of its file."""

    number: int
    layout: BlockLayout
    fields: tuple[StoredField, ...]
    nbytes: int

    def fill(self, reader: WeightReader, source: TensorSource, buffer: Tensor) -> None:
        """Copy the block from its file to ``buffer``, uint8 [at least nbytes] in host memory."""
        for name, view in self._views(buffer).items():
            view.copy_(reader.stored(source, name).values)

    def weights(self, buffer: Tensor) -> dict[str, StoredWeight]:
        """The block's tensors by their names in the checkpoint, as views of a buffer on any device."""
        kinds = {field.name: field.kind for field in self.fields}
        return {name: StoredWeight(view, kind=kinds[name]) for name, view in self._views(buffer).items()}

    def _views(self, buffer: Tensor) -> dict[str, Tensor]:
        return views(((field.name, field.offset, field.shape, field.dtype) for field in self.fields), buffer)


def stored_block(source: TensorSource, number: int, layout: BlockLayout) -> StoredBlock:
    """Lay out block ``number`` as ``source`` keeps it; raises ModelUnsupported where a tensor has another shape."""
    fields, end = [], 0
    for name, shape in stored_shapes(layout, number):
        weight = source.stored(name)
        check_shape(source, name, weight, shape)
        assert weight.scale is None and weight.block_scale is None, "a weight with a scale is packed"
        offset = -(-end // ALIGNMENT) * ALIGNMENT
        fields.append(StoredField(name, offset, weight.values.shape, weight.values.dtype, weight.kind))
        end = offset + weight.values.nbytes
    return StoredBlock(number, layout, tuple(fields), end)


def expand_block(
    block: StoredBlock, weights: Mapping[str, StoredWeight], target: Mapping[str, Tensor], device: torch.device
) -> None:
    """Make of stored ``weights`` on ``device`` what the plan wants: the tensors of ``block.layout``, ``target``."""
    fill_block(weights.__getitem__, block.number, block.layout, target, device)


def stored_blocks(source: TensorSource, numbers: Iterable[int], layout: BlockLayout) -> dict[int, StoredBlock]:
    """The blocks with these numbers, as ``source`` keeps them."""
    return {number: stored_block(source, number, layout) for number in numbers}
