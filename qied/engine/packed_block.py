"""One transformer block in one flat buffer: filled from a checkpoint, and seen as the tensors that it consists of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from qied.engine.quantise import E4M3, quantise
from qied.engine.sources import TensorSource, WeightReader, check_shape
from qied.planning.block_layout import NORMS, BlockLayout, ElementType, linears

_DTYPES: dict[ElementType, torch.dtype] = {"e4m3": E4M3, "bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class PackedLinear:
    """A linear: weight [outputs, inputs], bias [outputs]; ``scale`` (FP32 [outputs] or [1]) where it is quantised."""

    weight: Tensor
    bias: Tensor
    scale: Tensor | None


@dataclass(frozen=True)
class StreamWeights:
    """What one stream (image or text) meets in a block; the norms are [head_dim]."""

    qkv: PackedLinear
    out: PackedLinear
    up: PackedLinear
    down: PackedLinear
    q_norm: Tensor
    k_norm: Tensor


@dataclass(frozen=True)
class BlockWeights:
    """A block as views of its buffer."""

    image: StreamWeights
    text: StreamWeights


def block_tensors(layout: BlockLayout, buffer: Tensor) -> dict[str, Tensor]:
    """Return the tensors of a block by the layout's names, as views of ``buffer`` (uint8 [layout.nbytes])."""
    return {
        entry.name: buffer[entry.offset : entry.offset + entry.nbytes].view(_DTYPES[entry.dtype]).view(entry.shape)
        for entry in layout.entries
    }


def block_weights(layout: BlockLayout, buffer: Tensor) -> BlockWeights:
    """Return a block as views of ``buffer`` (uint8 [layout.nbytes])."""
    tensors = block_tensors(layout, buffer)

    def linear(name: str) -> PackedLinear:
        return PackedLinear(tensors[f"{name}.weight"], tensors[f"{name}.bias"], tensors.get(f"{name}.scale"))

    def stream(name: str) -> StreamWeights:
        qkv, out, up, down = (linear(f"{name}.{part}") for part in ("qkv", "out", "up", "down"))
        return StreamWeights(qkv, out, up, down, tensors[f"{name}.q_norm"], tensors[f"{name}.k_norm"])

    return BlockWeights(stream("image"), stream("text"))


def stored_names(layout: BlockLayout, prefix: str) -> Iterator[str]:
    """Names in the checkpoint of everything that is packed of the block ``prefix``."""
    for linear in linears(layout.shape):
        for module in linear.modules:
            yield f"{prefix}.{module}.weight"
            yield f"{prefix}.{module}.bias"
    for norm in NORMS:
        yield f"{prefix}.{norm.parameter}"


def pack_block(
    reader: WeightReader, source: TensorSource, prefix: str, layout: BlockLayout, buffer: Tensor, device: torch.device
) -> None:
    """Fill ``buffer`` (uint8 [layout.nbytes], on any device) with the block ``prefix``; quantised on ``device``.

    Beside the buffer it needs memory for one linear. Raises ModelUnsupported where a tensor has another shape.
    """
    tensors = block_tensors(layout, buffer)
    for linear in linears(layout.shape):
        names = [f"{prefix}.{module}" for module in linear.modules]
        biases = _read(reader, source, [f"{name}.bias" for name in names], (linear.outputs // len(names),))
        _stack(biases, tensors[f"{linear.name}.bias"])
        part = (linear.outputs // len(names), linear.inputs)
        weights = _read(reader, source, [f"{name}.weight" for name in names], part)
        if layout.quantised:
            values, scale = _quantised(weights, layout, device)
            tensors[f"{linear.name}.weight"].copy_(values)
            tensors[f"{linear.name}.scale"].copy_(scale)
        else:
            _stack(weights, tensors[f"{linear.name}.weight"])
    for norm in NORMS:
        _stack(_read(reader, source, [f"{prefix}.{norm.parameter}"], (layout.shape.head_dim,)), tensors[norm.name])


def _quantised(parts: list[Tensor], layout: BlockLayout, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return E4M3 values and the flat scale of ``parts`` on top of each other, computed on ``device``."""
    rows, columns = parts[0].shape
    stored = parts[0].dtype
    # Arithmetic is not defined on types of one byte; plain casts to FP8 lose nothing on the way through FP32.
    dtype = torch.float32 if stored.itemsize == 1 else stored
    whole = torch.empty(rows * len(parts), columns, dtype=dtype, device=device)
    _stack(parts, whole)
    quantised = quantise(whole, layout.scaling)
    return quantised.values, quantised.scale.flatten()


def _stack(parts: list[Tensor], target: Tensor) -> None:
    """Copy tensors into equal parts of ``target`` along its first dimension."""
    for stored, part in zip(parts, target.chunk(len(parts)), strict=True):
        part.copy_(stored)


def _read(reader: WeightReader, source: TensorSource, names: list[str], shape: tuple[int, ...]) -> list[Tensor]:
    tensors = [reader.read(source, name) for name in names]
    for name, tensor in zip(names, tensors, strict=True):
        check_shape(source, name, tensor, shape)
    return tensors
