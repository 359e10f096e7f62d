"""The matrices of a text encoder's layers in 8 bits: made once, kept on disk, and used where that file is mapped.

Only weights are in 8 bits: a layer is expanded when it is on the device (``streaming``), and computes as from 16 bits.
The vision tower's blocks are quantised like the language model's layers. The table of token embeddings is not: a prompt
reads a few hundred of its rows, which stay exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import structlog
import torch
from torch import Tensor

from qied.checkpoints.file_bytes import Matrices, matrices_of_layers
from qied.checkpoints.names import TEXT_STACKS
from qied.engine.disk.cache import DiskCache, Kind, identity_of
from qied.engine.disk.file import Contents
from qied.engine.text.streaming import layer_layout
from qied.engine.weights.quantise import E4M3, quantise_into, rotate_to_int8_into
from qied.engine.weights.sources import FileSource, TensorSource, WeightReader, check_shape
from qied.engine.weights.stored_weight import StoredWeight
from qied.planning.plan import TextPrecision

PACKED_TEXT = Kind("packed text encoder", "storage.packed_bytes", lasting=True)
PACKING = 1
"""Version of how layers are packed and quantised: files of another one are of no use."""
_DTYPES = {"int8-storage": torch.int8, "fp8-storage": E4M3}
_SCALE = " scale"
"""Stands behind a weight's name for its scale; names of parameters have no blanks."""


def quantised_layers(
    source: TensorSource,
    precision: TextPrecision,
    device: torch.device,
    reader: WeightReader,
    cache: DiskCache | None,
) -> dict[str, StoredWeight]:
    """The matrices of all layers that ``source`` has in 16 bits or more, by its names.

    Each has a scale for each row, and lies in a mapped file of ``cache``; what is not there is made on ``device``.
    Where nothing can be kept, nothing is quantised, which is logged: each worker would hold all of it in memory of its
    own.
    """
    if precision == "stored":
        return {}
    found: dict[str, StoredWeight] = {}
    stacks = [(stack, matrices) for stack in TEXT_STACKS if (matrices := _matrices(source, stack))]
    if not stacks:
        return found
    if cache is not None and isinstance(source, FileSource):
        keeping = replace(cache, kind=PACKED_TEXT)
        made = [_Layers(source, stack, matrices, precision, device, reader) for stack, matrices in stacks]
        for layers in made:
            keeping.ask_for(layers.contents())
        for layers in made:
            blocks = keeping.mapped(layers.contents(), layers.make, layers.pass_over)
            if blocks is None:
                break
            found.update(layers.weights(blocks))
        else:
            return found
    log = structlog.get_logger(part="text encoder")
    log.warning("the text encoder is used as it is stored", wanted=precision, reason="nothing was kept on disk")
    return {}


def _matrices(source: TensorSource, stack: str) -> list[Matrices]:
    """Of each layer of a stack, the matrices that every layer has in a type that is quantised here."""
    inside = {name: source.stored(name) for name in source.names() if name.startswith(stack)}
    shapes = {
        name: weight.shape if weight.is_plain and weight.values.dtype != E4M3 else None
        for name, weight in inside.items()
    }
    return matrices_of_layers(stack, shapes)


class _Layers:
    """The layers of one stack, of which the same matrices are quantised."""

    def __init__(
        self,
        source: FileSource,
        stack: str,
        matrices: Sequence[Matrices],
        precision: TextPrecision,
        device: torch.device,
        reader: WeightReader,
    ) -> None:
        self._source, self._stack, self._matrices = source, stack, matrices
        self._device, self._reader = device, reader
        tensors: dict[str, Tensor] = {}
        for name, (rows, columns) in matrices[0].items():
            tensors[name] = torch.empty((rows, columns), dtype=_DTYPES[precision], device="meta")
            tensors[name + _SCALE] = torch.empty(rows, dtype=torch.float32, device="meta")
        self._layout = layer_layout(tensors)

    def contents(self) -> Contents:
        """What the file of these layers is: the sources as they are now, their headers, and the layout."""
        fields = [[name, offset, list(shape), str(dtype)] for name, offset, shape, dtype in self._layout.fields]
        made_of: dict[str, Any] = {
            "packing": PACKING,
            "files": identity_of(self._source),
            "layers": self._stack,
            "fields": fields,
        }
        return Contents(made_of, len(self._matrices), self._layout.nbytes)

    def make(self, layer: int, buffer: Tensor) -> None:
        """Quantise the matrices of a layer into ``buffer``, uint8 [bytes of a layer] in host memory."""
        views = self._layout.views(buffer)
        for name, shape in self._matrices[layer].items():
            weight = self._reader.stored(self._source, self._whole(layer, name))
            check_shape(self._source, self._whole(layer, name), weight, shape)
            _quantise(weight, views[name], views[name + _SCALE], self._device)

    def pass_over(self) -> None:
        """Report that none of the matrices has to be read."""
        weights = (
            self._source.stored(self._whole(layer, name))
            for layer, names in enumerate(self._matrices)
            for name in names
        )
        self._reader.pass_over(self._source, sum(weight.nbytes for weight in weights))

    def weights(self, blocks: Sequence[Tensor]) -> Iterator[tuple[str, StoredWeight]]:
        """The matrices by the source's names, as views of ``blocks``."""
        for layer, block in enumerate(blocks):
            views = self._layout.views(block)
            for name in self._matrices[layer]:
                yield self._whole(layer, name), StoredWeight(views[name], views[name + _SCALE])

    def _whole(self, layer: int, name: str) -> str:
        return f"{self._stack}{layer}.{name}"


def _quantise(weight: StoredWeight, values: Tensor, scale: Tensor, device: torch.device) -> None:
    """Put a matrix into ``values`` [rows, columns] in INT8 or E4M3, and ``scale`` FP32 [rows]; made on ``device``."""
    dense = weight.dense(device).to(device)
    made, scales = torch.empty(values.shape, dtype=values.dtype, device=device), torch.empty(len(values), device=device)
    if values.dtype == E4M3:
        quantise_into(dense, "rowwise", made, scales)
    else:
        rotate_to_int8_into(dense, 1, made, scales)
    values.copy_(made)
    scale.copy_(scales)
