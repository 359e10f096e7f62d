"""INT8 linears by Triton: INT8 in, summed in INT32 by the tensor cores, scaled where the sums are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from qied.engine.block.arena import Workspace
from qied.engine.block.packed import PackedLinear
from qied.engine.ops.int8_kernels import int8_linear_kernel, persistent_int8_linear_kernel
from qied.engine.ops.linear import Form
from qied.engine.ops.operations import Activation
from qied.planning.layout.block_layout import BlockShape, linears

HOPPER: Final = 9
"""The major capability whose copy engine feeds the persistent kernel."""


@dataclass(frozen=True)
class Tile:
    """How a product is cut: rows, outputs and inputs of a tile, inputs of them in flight, warps of a program."""

    m: int
    n: int
    k: int
    stages: int
    warps: int


PERSISTENT, HOPPER_LOW = Tile(128, 128, 128, 3, 4), Tile(64, 256, 128, 4, 8)
"""Measured best of some thirty on one H200: for many rows, and for fewer than keep all of the card busy."""
OTHER, LOW = Tile(128, 128, 128, 3, 8), Tile(64, 128, 128, 3, 4)
"""For 100 KB of shared memory; for few rows."""
_PROGRAMS: Final = 2
"""Persistent programs on each multiprocessor, of which one can write its results while the other multiplies."""
_FEW_ROWS, _LOW_ROWS = 64, 512
_SWEEP, _SWEEP_WIDE = 16, 32
"""Tiles of rows that meet each tile of weights in turn, and where there are more outputs than inputs."""


def tile_for(rows: int, capability: tuple[int, int]) -> Tile:
    """The tile for a product of so many rows on a card."""
    if rows <= _FEW_ROWS:
        return LOW
    if capability[0] != HOPPER:
        return OTHER
    return HOPPER_LOW if rows <= _LOW_ROWS else PERSISTENT


class Int8Linear:
    """See ``linear.LinearKind``; ``capability`` is that of the card and decides how products are cut.

    ``processors`` is the number of its multiprocessors.
    """

    form: Form = "int8"

    def __init__(self, capability: tuple[int, int], processors: int) -> None:
        self._capability = capability
        self._programs = processors * _PROGRAMS

    def compile_for(self, shape: BlockShape, dtype: torch.dtype, device: torch.device) -> None:
        """Compile what the blocks of a model need, so that no first edit waits for it; kept on disk by Triton."""
        for linear in linears(shape):
            weight = torch.zeros(linear.outputs, linear.inputs, dtype=torch.int8, device=device)
            scale = torch.zeros(linear.outputs, device=device)
            packed = PackedLinear(weight, scale.to(dtype), scale)
            for rows in (_FEW_ROWS, _LOW_ROWS, _LOW_ROWS + 1):
                values = torch.zeros(rows, linear.inputs, dtype=torch.int8, device=device)
                x = Activation(values, torch.zeros(rows, device=device))
                self.apply(x, packed, torch.empty(rows, linear.outputs, dtype=dtype, device=device))

    def apply(self, x: Activation, linear: PackedLinear, out: Tensor, workspace: Workspace | None = None) -> None:
        """Write the product to ``out`` [rows, outputs], of the compute type."""
        assert x.scale is not None and linear.scale is not None
        rows, inputs = x.values.shape
        outputs = len(linear.weight)
        tile = tile_for(rows, self._capability)
        tiles = triton.cdiv(rows, tile.m) * triton.cdiv(outputs, tile.n)
        values: Any = x.values
        weight: Any = linear.weight
        kernel = int8_linear_kernel
        if tile is PERSISTENT:
            kernel, tiles = persistent_int8_linear_kernel, min(tiles, self._programs)
            values = TensorDescriptor(values, [rows, inputs], [inputs, 1], [tile.m, tile.k])
            weight = TensorDescriptor(weight, [outputs, inputs], [inputs, 1], [tile.n, tile.k])
        kernel[(tiles,)](
            values,
            weight,
            x.scale,
            linear.scale,
            linear.bias,
            out,
            rows,
            OUTPUTS=outputs,
            INPUTS=inputs,
            M=tile.m,
            N=tile.n,
            K=tile.k,
            SWEEP=_SWEEP_WIDE if outputs > inputs else _SWEEP,
            num_stages=tile.stages,
            num_warps=tile.warps,
        )
