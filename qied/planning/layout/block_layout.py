"""How one transformer block lies in memory: every tensor of it in one flat buffer, as names, shapes and offsets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

from qied.planning.plan import Scaling
from qied.planning.profiles.model_profile import Architecture

Precision = Literal["fp8", "int8", "fp8-storage", "bf16", "fp32"]
Compute = Literal["bf16", "fp32"]
ElementType = Literal["e4m3", "int8", "bf16", "fp32", "int32"]

ALIGNMENT = 256
"""Every tensor starts at a multiple of this many bytes: what FP8 kernels and vector loads ask for, and more."""

ELEMENT_BYTES: dict[ElementType, int] = {"e4m3": 1, "int8": 1, "bf16": 2, "fp32": 4, "int32": 4}


QUANTISED: frozenset[ElementType] = frozenset({"e4m3", "int8"})
"""Types of weights that have scales."""
STORED_AS: dict[Precision, ElementType] = {"fp8": "e4m3", "fp8-storage": "e4m3", "int8": "int8"}
"""The type of the linears' weights where it is not that of activations."""
_GROUPS = (256, 64, 16, 4)


@dataclass(frozen=True)
class BlockShape:
    """Widths of a block: the residual streams, the MLP between its two linears, and one attention head."""

    inner_dim: int
    mlp_dim: int
    head_dim: int

    @property
    def rotation_group(self) -> int:
        """See :func:`rotation_group`."""
        return rotation_group(self.inner_dim, self.mlp_dim)


def rotation_group(inner_dim: int, mlp_dim: int) -> int:
    """Neighbouring inputs of a linear that are rotated together before they become INT8: a power of 4.

    256 is what ComfyUI's ConvRot files have; smaller models take the largest that divides both widths, 1 is none.
    """
    return next((group for group in _GROUPS if inner_dim % group == 0 == mlp_dim % group), 1)


@dataclass(frozen=True)
class LinearSpec:
    """A linear with weight [outputs, inputs], stacked from the checkpoint's ``modules`` (of equal size) in order."""

    name: str
    outputs: int
    inputs: int
    modules: tuple[str, ...]


@dataclass(frozen=True)
class NormSpec:
    """The weight [head_dim] of an RMS norm of queries or keys, and its name in the checkpoint's block."""

    name: str
    parameter: str


NORMS = (
    NormSpec("image.q_norm", "attn.norm_q.weight"),
    NormSpec("image.k_norm", "attn.norm_k.weight"),
    NormSpec("text.q_norm", "attn.norm_added_q.weight"),
    NormSpec("text.k_norm", "attn.norm_added_k.weight"),
)


def linears(shape: BlockShape) -> tuple[LinearSpec, ...]:
    """The eight linears of a block, those of the image stream and of the text stream; Q, K and V are one each."""
    inner, mlp = shape.inner_dim, shape.mlp_dim
    return (
        LinearSpec("image.qkv", 3 * inner, inner, ("attn.to_q", "attn.to_k", "attn.to_v")),
        LinearSpec("text.qkv", 3 * inner, inner, ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")),
        LinearSpec("image.out", inner, inner, ("attn.to_out.0",)),
        LinearSpec("text.out", inner, inner, ("attn.to_add_out",)),
        LinearSpec("image.up", mlp, inner, ("img_mlp.net.0.proj",)),
        LinearSpec("image.down", inner, mlp, ("img_mlp.net.2",)),
        LinearSpec("text.up", mlp, inner, ("txt_mlp.net.0.proj",)),
        LinearSpec("text.down", inner, mlp, ("txt_mlp.net.2",)),
    )


@dataclass(frozen=True)
class LayoutEntry:
    """One tensor of a block: ``offset`` is where its bytes start in the buffer."""

    name: str
    dtype: ElementType
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor, without what aligns the next one."""
        return prod(self.shape) * ELEMENT_BYTES[self.dtype]


@dataclass(frozen=True)
class BlockLayout:
    """Where each tensor of a block lies. ``weight`` is the type of the linears' weights; E4M3 and INT8 have scales.

    A linear ``x`` has ``x.weight``, ``x.bias`` and, quantised, ``x.scale``: [outputs] row-wise, [1] per tensor.
    ``number`` [1] is which block it is: kernels of a CUDA graph read it there, whatever block is in a slot.
    """

    shape: BlockShape
    weight: ElementType
    scaling: Scaling
    entries: tuple[LayoutEntry, ...]

    @property
    def quantised(self) -> bool:
        """Whether weights have scales."""
        return self.weight in QUANTISED

    @property
    def nbytes(self) -> int:
        """Bytes of the whole buffer, a multiple of ``ALIGNMENT``."""
        last = self.entries[-1]
        return _aligned(last.offset + last.nbytes)

    def gaps(self) -> Iterator[slice]:
        """Bytes of the buffer that belong to no tensor."""
        ends = (entry.offset + entry.nbytes for entry in self.entries)
        starts = (*(entry.offset for entry in self.entries[1:]), self.nbytes)
        return (slice(end, start) for end, start in zip(ends, starts, strict=True) if end < start)


def block_layout(shape: BlockShape, precision: Precision, scaling: Scaling | None, compute: Compute) -> BlockLayout:
    """Lay out a block; biases and norms are of the ``compute`` type, FP8 without a ``scaling`` is row-wise."""
    scaling = scaling or "rowwise"
    weight: ElementType = STORED_AS.get(precision, compute)
    entries: list[LayoutEntry] = []
    offset = 0
    for name, dtype, dimensions in _tensors(shape, weight, compute, scaling):
        entries.append(LayoutEntry(name, dtype, dimensions, offset))
        offset = _aligned(offset + entries[-1].nbytes)
    return BlockLayout(shape, weight, scaling, tuple(entries))


def block_bytes(
    architecture: Architecture, precision: Precision, scaling: Scaling | None, compute: Compute = "bf16"
) -> int:
    """Bytes of one packed block, on the device or in the host's memory."""
    shape = BlockShape(architecture.inner_dim, architecture.mlp_dim, architecture.head_dim)
    return block_layout(shape, precision, scaling, compute).nbytes


def _tensors(
    shape: BlockShape, weight: ElementType, compute: Compute, scaling: Scaling
) -> Iterator[tuple[str, ElementType, tuple[int, ...]]]:
    for linear in linears(shape):
        yield f"{linear.name}.weight", weight, (linear.outputs, linear.inputs)
    for linear in linears(shape):
        yield f"{linear.name}.bias", compute, (linear.outputs,)
        if weight in QUANTISED:
            yield f"{linear.name}.scale", "fp32", (linear.outputs if scaling == "rowwise" else 1,)
    for norm in NORMS:
        yield norm.name, compute, (shape.head_dim,)
    yield "number", "int32", (1,)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
