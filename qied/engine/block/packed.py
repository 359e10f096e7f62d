"""One transformer block in one flat buffer: filled from a checkpoint, and seen as the tensors that it consists of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qied.engine.block.views import layout_views
from qied.engine.disk.cache import Kind, identity_of
from qied.engine.disk.file import Contents
from qied.engine.weights.quantise import E4M3, quantise, rotate_to_int8, row_chunks
from qied.engine.weights.rotation import reversed_groups
from qied.engine.weights.sources import FileSource, TensorSource, WeightReader, check_shape
from qied.engine.weights.stored_weight import StoredWeight
from qied.planning.layout.block_layout import NORMS, BlockLayout, linears

BLOCKS = "transformer_blocks."
"""Prefix of the names of all blocks' tensors in the checkpoint."""


@dataclass(frozen=True)
class PackedLinear:
    """A linear: weight [outputs, inputs], bias [outputs]; ``scale`` (FP32 [outputs] or [1]) where it is quantised."""

    weight: Tensor
    bias: Tensor
    scale: Tensor | None


@dataclass(frozen=True)
class StreamWeights:
    """The weights of one stream (image or text) in a block; the norms are [head_dim]."""

    qkv: PackedLinear
    out: PackedLinear
    up: PackedLinear
    down: PackedLinear
    q_norm: Tensor
    k_norm: Tensor


@dataclass(frozen=True)
class BlockWeights:
    """A block as views of its buffer; ``number`` (int32 [1]) says which block it is."""

    image: StreamWeights
    text: StreamWeights
    number: Tensor


def block_tensors(layout: BlockLayout, buffer: Tensor) -> dict[str, Tensor]:
    """Return the tensors of a block by the layout's names, as views of ``buffer`` (uint8 [layout.nbytes])."""
    return layout_views(layout.entries, buffer)


def block_weights(layout: BlockLayout, buffer: Tensor) -> BlockWeights:
    """Return a block as views of ``buffer`` (uint8 [layout.nbytes])."""
    tensors = block_tensors(layout, buffer)

    def linear(name: str) -> PackedLinear:
        return PackedLinear(tensors[f"{name}.weight"], tensors[f"{name}.bias"], tensors.get(f"{name}.scale"))

    def stream(name: str) -> StreamWeights:
        qkv, out, up, down = (linear(f"{name}.{part}") for part in ("qkv", "out", "up", "down"))
        return StreamWeights(qkv, out, up, down, tensors[f"{name}.q_norm"], tensors[f"{name}.k_norm"])

    return BlockWeights(stream("image"), stream("text"), tensors["number"])


def block_prefix(number: int) -> str:
    """Prefix of the names of a block's tensors in the checkpoint."""
    return f"{BLOCKS}{number}"


def stored_shapes(layout: BlockLayout, number: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names in the checkpoint, and shapes, of everything that is packed of block ``number``."""
    prefix = block_prefix(number)
    for linear in linears(layout.shape):
        rows = linear.outputs // len(linear.modules)
        for module in linear.modules:
            yield f"{prefix}.{module}.weight", (rows, linear.inputs)
            yield f"{prefix}.{module}.bias", (rows,)
    for norm in NORMS:
        yield f"{prefix}.{norm.parameter}", (layout.shape.head_dim,)


def pack_block(
    reader: WeightReader, source: TensorSource, number: int, layout: BlockLayout, buffer: Tensor, device: torch.device
) -> None:
    """Fill ``buffer`` (uint8 [layout.nbytes], on any device) with block ``number``; quantised on ``device``.

    The gaps between tensors become zero: equal blocks have equal bytes, and nothing else of the memory is ever kept.
    Besides the buffer this needs memory for one linear. Raises ModelUnsupported where a tensor has another shape.
    """
    shapes = dict(stored_shapes(layout, number))

    def read(name: str) -> StoredWeight:
        weight = reader.stored(source, name)
        check_shape(source, name, weight, shapes[name])
        return weight

    fill_block(read, number, layout, block_tensors(layout, buffer), device)
    for gap in layout.gaps():
        buffer[gap] = 0


def fill_block(
    read: Callable[[str], StoredWeight],
    number: int,
    layout: BlockLayout,
    tensors: Mapping[str, Tensor],
    device: torch.device,
) -> None:
    """Make the ``tensors`` of block ``number`` of what ``read`` gives by names of the checkpoint, on ``device``.

    What is stored in E4M3 stays as it is where rows have scales of their own: its bytes, with its scale for each row.
    So does what is stored in INT8 with the same rotation, but for the order in each group.
    """
    prefix = block_prefix(number)
    for linear in linears(layout.shape):
        names = [f"{prefix}.{module}" for module in linear.modules]
        biases = tensors[f"{linear.name}.bias"].chunk(len(names))
        weights = [read(f"{name}.weight") for name in names]
        for name, bias in zip(names, biases, strict=True):
            read(f"{name}.bias").put(bias, device)
        target, scale = tensors[f"{linear.name}.weight"], tensors.get(f"{linear.name}.scale")
        if scale is None:
            for weight, rows in zip(weights, target.chunk(len(weights)), strict=True):
                weight.put(rows, device)
        elif layout.scaling == "rowwise":
            group = layout.shape.rotation_group
            for weight, rows, scales in zip(weights, target.chunk(len(names)), scale.chunk(len(names)), strict=True):
                if layout.weight == "int8":
                    _rotate_rows(weight, group, rows, scales, device)
                else:
                    _quantise_rows(weight, rows, scales, device)
        else:
            _quantise_whole(weights, target, scale, device)
    for norm in NORMS:
        read(f"{prefix}.{norm.parameter}").put(tensors[norm.name], device)
    tensors["number"].fill_(number)


def _rotate_rows(weight: StoredWeight, group: int, values: Tensor, scales: Tensor, device: torch.device) -> None:
    """Put INT8 values [rows, inputs], rotated in groups of ``group``, and a scale [rows] for each of their rows."""
    if weight.values.dtype == torch.int8 and weight.group == group:
        assert weight.scale is not None, "INT8 has scales"
        values.copy_(reversed_groups(weight.values, group))
        scales.copy_(weight.scale)
        return
    for rows, part in _dense_parts(weight, device):
        quantised = rotate_to_int8(part, group)
        values[rows].copy_(quantised.values)
        scales[rows].copy_(quantised.scale.flatten())


def _quantise_rows(weight: StoredWeight, values: Tensor, scales: Tensor, device: torch.device) -> None:
    """Put E4M3 values [rows, inputs] and a scale [rows] for each of their rows."""
    if weight.values.dtype == E4M3 and weight.block_scale is None:
        values.copy_(weight.values)
        scales.fill_(1.0) if weight.scale is None else scales.copy_(weight.scale)
        return
    for rows, part in _dense_parts(weight, device):
        quantised = quantise(part, "rowwise")
        values[rows].copy_(quantised.values)
        scales[rows].copy_(quantised.scale.flatten())


def _dense_parts(weight: StoredWeight, device: torch.device) -> Iterator[tuple[slice, Tensor]]:
    """Rows of a weight without its scale on ``device``: some at a time of what is expanded to FP32, else all."""
    if weight.kind is None:
        yield slice(None), weight.dense(device).to(device)
        return
    for rows in row_chunks(*weight.shape):
        yield rows, weight.rows(rows).dense(device).to(device)


def _quantise_whole(parts: list[StoredWeight], values: Tensor, scale: Tensor, device: torch.device) -> None:
    """Put E4M3 values of ``parts`` on top of each other and their one scale [1]; E4M3 values are rounded again."""
    dense = [part.dense(device) for part in parts]
    # Parts that were E4M3 are FP32 by now, whatever the others are.
    alike = all(part.dtype == dense[0].dtype for part in dense)
    whole = torch.empty(values.shape, dtype=dense[0].dtype if alike else torch.float32, device=device)
    _stack(dense, whole)
    quantised = quantise(whole, "tensorwise")
    values.copy_(quantised.values)
    scale.copy_(quantised.scale.flatten())


def _stack(parts: list[Tensor], target: Tensor) -> None:
    """Copy tensors into equal parts of ``target`` along its first dimension."""
    for stored, part in zip(parts, target.chunk(len(parts)), strict=True):
        part.copy_(stored)


PACKED = Kind("packed blocks", "storage.packed_bytes", lasting=True)
PACKING = 3
"""Version of how blocks are packed and quantised: files of another one are of no use."""


def contents_of(source: FileSource, layout: BlockLayout, blocks: int) -> Contents:
    """What the packed blocks of a source are: its files as they are now, their headers, and the layout."""
    shape = layout.shape
    entries = [[entry.name, entry.dtype, list(entry.shape), entry.offset] for entry in layout.entries]
    made_of: dict[str, Any] = {
        "packing": PACKING,
        "files": identity_of(source),
        "shape": [shape.inner_dim, shape.mlp_dim, shape.head_dim],
        "scaling": layout.scaling,
        "entries": entries,
    }
    return Contents(made_of, blocks, layout.nbytes)
