"""Linear layers of packed blocks: plain, with FP8 weights that are expanded before use, and in FP8 or INT8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from qied.engine.block.arena import Workspace
from qied.engine.block.packed import PackedLinear
from qied.engine.device_errors import is_exhausted
from qied.engine.ops.operations import Activation, JointRows, StreamLinear
from qied.engine.weights.quantise import dequantise_into, row_chunks
from qied.planning.plan import Scaling

Form = Literal["plain", "rowwise", "tensorwise", "int8"]
"""What linears take in: values of the compute type, E4M3 with a scale for each row or for all, or rotated INT8."""
BY_ROW: frozenset[Form] = frozenset({"rowwise", "int8"})
"""Forms that are quantised row by row."""
_FEWEST_ROWS = 32
"""cuBLAS multiplies no 16 rows or fewer of INT8."""
_EXACT_INPUTS = 1024
"""Products of so many INT8 values sum up exactly in FP32, which has 24 bits."""

FP8_CAPABILITY = (8, 9)
"""The first compute capability with FP8 tensor cores."""


class LinearKind(Protocol):
    """How the linears of a block are computed; ``form`` is what their inputs have to be."""

    @property
    def form(self) -> Form:
        """The form of an input."""

    def apply(self, x: Activation, linear: PackedLinear, out: Tensor, workspace: Workspace) -> None:
        """Write the product with the bias to ``out`` [rows, outputs], of the compute type."""


class PlainLinear:
    """Weights and activations of the compute type."""

    form: Form = "plain"

    def apply(self, x: Activation, linear: PackedLinear, out: Tensor, workspace: Workspace) -> None:
        torch.addmm(linear.bias, x.values, linear.weight.t(), out=out)


class ExpandedLinear:
    """Weights in FP8, expanded to the compute type one linear at a time; exactly :class:`PlainLinear` on the result.

    ``expand`` writes E4M3 values times their scale to a tensor of the compute type.
    """

    form: Form = "plain"

    def __init__(self, expand: Callable[[Tensor, Tensor, Tensor], None] = dequantise_into) -> None:
        self._expand = expand

    def apply(self, x: Activation, linear: PackedLinear, out: Tensor, workspace: Workspace) -> None:
        assert linear.scale is not None and workspace.expanded is not None
        weight = workspace.expanded[: linear.weight.numel()].view(linear.weight.shape)
        self._expand(linear.weight, linear.scale, weight)
        torch.addmm(linear.bias, x.values, weight.t(), out=out)


class Fp8Linear:
    """Weights and activations in FP8, multiplied by the tensor cores and summed in FP32.

    Row-wise, activations have a scale for each token; per tensor, one for each call.
    """

    def __init__(self, scaling: Scaling) -> None:
        self.form: Form = scaling
        self._bias_apart: set[tuple[int, int, int]] = set()

    def apply(self, x: Activation, linear: PackedLinear, out: Tensor, workspace: Workspace | None = None) -> None:
        """See :class:`LinearKind`; ``out`` is BF16.

        Some shapes have no kernel that adds the bias as well (cuBLASLt 13.0 on sm_90: 250 rows of 12288 row-wise); the
        first call of such a shape finds it out, and the bias is added by itself from then on. How a library says so
        differs, so any error is tried once without the bias; if that fails as well, its own error is raised.
        """
        shape = (len(x.values), *linear.weight.shape)
        if shape not in self._bias_apart:
            try:
                self._multiply(x, linear, linear.bias, out)
                return
            except RuntimeError as error:
                if is_exhausted(error):
                    raise
        self._multiply(x, linear, None, out)
        out.add_(linear.bias)
        self._bias_apart.add(shape)

    def _multiply(self, x: Activation, linear: PackedLinear, bias: Tensor | None, out: Tensor) -> None:
        assert x.scale is not None and linear.scale is not None
        rowwise = self.form == "rowwise"
        torch._scaled_mm(
            x.values,
            linear.weight.t(),
            scale_a=x.scale.unsqueeze(1) if rowwise else x.scale[0],
            scale_b=linear.scale.unsqueeze(0) if rowwise else linear.scale[0],
            bias=bias,
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
            out=out,
        )


class SimulatedFp8Linear:
    """What :class:`Fp8Linear` computes, where there are no FP8 tensor cores: the same casts, multiplied in FP32."""

    def __init__(self, scaling: Scaling) -> None:
        self.form: Form = scaling

    def apply(self, x: Activation, linear: PackedLinear, out: Tensor, workspace: Workspace | None = None) -> None:
        assert x.scale is not None and linear.scale is not None
        product = functional.linear(x.values.float(), linear.weight.float())
        product.mul_(x.scale.unsqueeze(1) if self.form == "rowwise" else x.scale[0])
        out.copy_(product.mul_(linear.scale).add_(linear.bias))


class Int8LinearByTorch:
    """INT8 weights and activations, both rotated, by torch's integer product: where Triton has none.

    Its sums are written as INT32 before they are scaled, for some rows at a time.
    """

    form: Form = "int8"

    def apply(self, x: Activation, linear: PackedLinear, out: Tensor, workspace: Workspace | None = None) -> None:
        assert x.scale is not None and linear.scale is not None
        weight = linear.weight.t()
        for rows in row_chunks(*out.shape):
            values = x.values[rows]
            count = len(values)
            if count < _FEWEST_ROWS:
                values = functional.pad(values, (0, 0, 0, _FEWEST_ROWS - count))
            product = torch._int_mm(values, weight)[:count].float().mul_(x.scale[rows].unsqueeze(1))
            out[rows] = product.mul_(linear.scale).add_(linear.bias)


class SimulatedInt8Linear:
    """INT8 weights and activations, both rotated, each row with a scale of its own: summed exactly, by way of FP32.

    What cards compute by ``ops.int8_linear``, to the last rounding.
    """

    form: Form = "int8"

    def apply(self, x: Activation, linear: PackedLinear, out: Tensor, workspace: Workspace | None = None) -> None:
        assert x.scale is not None and linear.scale is not None
        exact = torch.zeros(out.shape, dtype=torch.int32, device=out.device)
        for begin in range(0, x.values.shape[1], _EXACT_INPUTS):
            inputs = slice(begin, begin + _EXACT_INPUTS)
            exact += functional.linear(x.values[:, inputs].float(), linear.weight[:, inputs].float()).to(torch.int32)
        product = exact.float().mul_(x.scale.unsqueeze(1)).mul_(linear.scale)
        out.copy_(product.add_(linear.bias))


def apply_sides(
    linears: LinearKind, x: JointRows, text: StreamLinear, image: StreamLinear, out: Tensor, workspace: Workspace
) -> None:
    """Write to ``out`` [rows, outputs] what the linears of both streams make of ``x``, with their branches."""
    text_rows = 0 if x.text is None else len(x.text.values)
    for part, side, rows in ((x.text, text, out[:text_rows]), (x.image, image, out[text_rows:])):
        if part is not None:
            linears.apply(part, side.weights, rows, workspace)
            for branch in side.branches:
                assert part.plain is not None and workspace.low_rank is not None, "a branch reads what was not kept"
                branch.add_to(rows, part.plain, workspace.low_rank)


def linear_kind(precision: str, scaling: Scaling | None, device: torch.device) -> LinearKind:
    """Choose how linears are computed by torch alone.

    FP8 is simulated where the device has no FP8 tensor cores, and INT8 on the CPU.
    """
    if precision == "fp8-storage":
        return ExpandedLinear()
    if precision == "int8":
        return Int8LinearByTorch() if device.type == "cuda" else SimulatedInt8Linear()
    if precision != "fp8":
        return PlainLinear()
    if has_fp8_cores(device):
        return Fp8Linear(scaling or "rowwise")
    return SimulatedFp8Linear(scaling or "rowwise")


def has_fp8_cores(device: torch.device) -> bool:
    """Whether the device multiplies FP8 itself."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= FP8_CAPABILITY
