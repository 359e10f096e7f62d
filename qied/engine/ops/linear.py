"""Linear layers of packed blocks: plain, with FP8 weights that are expanded before use, and multiplied in FP8."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from qied.engine.faults import is_exhausted
from qied.engine.packed_block import PackedLinear
from qied.engine.quantise import Quantised, dequantise, quantise
from qied.planning.plan import Scaling

Activation = Tensor | Quantised
"""The input of a linear [rows, inputs]: of the compute type, or quantised."""

FP8_CAPABILITY = (8, 9)
"""The first compute capability with FP8 tensor cores."""


class LinearKind(Protocol):
    """How the linears of a block are computed."""

    def prepare(self, x: Tensor, *, keep: bool) -> Activation:
        """Bring an input [rows, inputs] into the form that :meth:`apply` takes; ``keep`` what it was before."""

    def apply(self, x: Activation, linear: PackedLinear) -> Tensor:
        """Return [rows, outputs] in the compute type."""


class PlainLinear:
    """Weights and activations of the compute type."""

    def prepare(self, x: Tensor, *, keep: bool = False) -> Activation:
        """Leave the input as it is."""
        return x

    def apply(self, x: Activation, linear: PackedLinear) -> Tensor:
        """Return [rows, outputs]."""
        assert isinstance(x, Tensor)
        return functional.linear(x, linear.weight, linear.bias)


class ExpandedLinear:
    """Weights in FP8, expanded to the compute type one linear at a time; exactly :class:`PlainLinear` on the result."""

    def prepare(self, x: Tensor, *, keep: bool = False) -> Activation:
        """Leave the input as it is."""
        return x

    def apply(self, x: Activation, linear: PackedLinear) -> Tensor:
        """Return [rows, outputs]."""
        assert isinstance(x, Tensor) and linear.scale is not None
        return functional.linear(x, dequantise(linear.weight, linear.scale, x.dtype), linear.bias)


class Fp8Linear:
    """Weights and activations in FP8, multiplied by the tensor cores and summed in FP32.

    Row-wise, activations have a scale for each token; per tensor, one for each call.
    """

    def __init__(self, scaling: Scaling) -> None:
        self._scaling = scaling
        self._bias_apart: set[tuple[int, int, int]] = set()

    def prepare(self, x: Tensor, *, keep: bool = False) -> Activation:
        """Quantise the input."""
        return quantise(x, self._scaling, keep=keep)

    def apply(self, x: Activation, linear: PackedLinear) -> Tensor:
        """Return BF16 [rows, outputs].

        Some shapes have no kernel that adds the bias as well (cuBLASLt 13.0 on sm_90: 250 rows of 12288 row-wise); the
        first call of such a shape finds it out, and the bias is added by itself from then on. How a library says so
        differs, so any error is tried once without the bias; where that is no better, its own error is raised.
        """
        assert isinstance(x, Quantised) and linear.scale is not None
        shape = (len(x.values), *linear.weight.shape)
        if shape not in self._bias_apart:
            try:
                return self._multiplied(x, linear, linear.bias)
            except RuntimeError as error:
                if is_exhausted(error):
                    raise
        product = self._multiplied(x, linear, None).add_(linear.bias)
        self._bias_apart.add(shape)
        return product

    def _multiplied(self, x: Quantised, linear: PackedLinear, bias: Tensor | None) -> Tensor:
        assert linear.scale is not None
        rowwise = self._scaling == "rowwise"
        return torch._scaled_mm(
            x.values,
            linear.weight.t(),
            scale_a=x.scale if rowwise else x.scale.view(()),
            scale_b=linear.scale.unsqueeze(0) if rowwise else linear.scale.view(()),
            bias=bias,
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )


class SimulatedFp8Linear:
    """What :class:`Fp8Linear` computes, where there are no FP8 tensor cores: the same casts, multiplied in FP32."""

    def __init__(self, scaling: Scaling) -> None:
        self._scaling = scaling

    def prepare(self, x: Tensor, *, keep: bool = False) -> Activation:
        """Quantise the input."""
        return quantise(x, self._scaling, keep=keep)

    def apply(self, x: Activation, linear: PackedLinear) -> Tensor:
        """Return [rows, outputs] in the type of the bias."""
        assert isinstance(x, Quantised) and linear.scale is not None
        product = functional.linear(x.values.float(), linear.weight.float())
        product.mul_(x.scale).mul_(linear.scale).add_(linear.bias)
        return product.to(linear.bias.dtype)


def linear_kind(precision: str, scaling: Scaling | None, device: torch.device) -> LinearKind:
    """Choose how linears are computed; FP8 is simulated where the device has no FP8 tensor cores."""
    if precision == "fp8-storage":
        return ExpandedLinear()
    if precision != "fp8":
        return PlainLinear()
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= FP8_CAPABILITY:
        return Fp8Linear(scaling or "rowwise")
    return SimulatedFp8Linear(scaling or "rowwise")
