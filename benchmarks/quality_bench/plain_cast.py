"""FP8 as a plain cast, for comparison: weights and activations are rounded to E4M3 as they are, without any scale."""

from __future__ import annotations

from collections.abc import Collection

import torch
from part_runs.dense_source import DenseSource
from torch import Tensor
from torch.nn import functional

from qied.engine.block.arena import Workspace
from qied.engine.block.packed import PackedLinear
from qied.engine.ops.linear import Form, has_fp8_cores
from qied.engine.ops.operations import Activation
from qied.engine.weights.quantise import E4M3, E4M3_MAX
from qied.engine.weights.sources import TensorSource
from qied.planning.layout.block_layout import BlockShape, linears


def plain_cast(x: Tensor) -> Tensor:
    """Round to E4M3; what is beyond its largest number becomes that number, as other programs do."""
    return x.clamp(-E4M3_MAX, E4M3_MAX).to(E4M3)


class PlainCastSource(DenseSource):
    """The tensors of another source, with the weights of the blocks' linears rounded to E4M3 without a scale.

    They come in BF16, which holds every E4M3 number exactly.
    """

    def __init__(self, source: TensorSource) -> None:
        self.component = source.component
        self.nbytes = source.nbytes
        self._source = source
        modules = [module for linear in linears(BlockShape(1, 1, 1)) for module in linear.modules]
        self._cast = tuple(f".{module}.weight" for module in modules)

    def names(self) -> Collection[str]:
        """Names of all tensors."""
        return self._source.names()

    def origin(self, name: str) -> str:
        """Where a tensor comes from."""
        return self._source.origin(name)

    def read(self, name: str) -> Tensor:
        """Return a tensor, cast where it is the weight of a linear in a block."""
        tensor = self._source.read(name)
        return plain_cast(tensor).bfloat16() if name.endswith(self._cast) else tensor


class PlainCastLinear:
    """Linears in E4M3 with FP32 sums: on FP8 tensor cores where the device has them, else of the same casts in FP32."""

    form: Form = "plain"

    def __init__(self, device: torch.device) -> None:
        self._cores = has_fp8_cores(device)
        self._one = torch.ones((), device=device)

    def apply(self, x: Activation, linear: PackedLinear, out: Tensor, workspace: Workspace | None = None) -> None:
        """Write to ``out`` [rows, outputs]; the input is cast here."""
        values = plain_cast(x.values)
        if self._cores:
            weight = linear.weight.to(E4M3).t()
            product = torch._scaled_mm(values, weight, self._one, self._one, out_dtype=torch.float32)
        else:
            product = functional.linear(values.float(), linear.weight.float())
        out.copy_(product.add_(linear.bias))
