"""Trials of matrix products: BF16, FP8 with scales per row and per tensor, FP8 weights that are widened first, INT8."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor
from torch.nn import functional

from qied.engine.block.arena import Workspace
from qied.engine.block.packed import PackedLinear
from qied.engine.ops.choice import int8_linears
from qied.engine.ops.linear import Fp8Linear, LinearKind
from qied.engine.ops.operations import Activation
from qied.engine.selftest.measure import ERROR_LIMITS, Clock, judged, median_seconds, relative_error
from qied.engine.weights.quantise import quantise, rotate_to_int8
from qied.hardware.snapshot import Trial
from qied.planning.layout.block_layout import rotation_group
from qied.planning.plan import Scaling

Quantising = Callable[[Tensor, Tensor], tuple[Activation, PackedLinear]]
"""Makes the input of a linear, and the linear, of inputs [tokens, inner] and a weight [outer, inner]."""
FP8 = torch.float8_e4m3fn
_FP8_MAX = torch.finfo(FP8).max
_SPREAD = 6.0
"""Rows differ in size by up to 2 to this power, as channels of real layers do: wrong scales show."""


@dataclass(frozen=True)
class Shape:
    """A linear layer: ``tokens`` by ``inner`` times ``inner`` by ``outer``."""

    tokens: int
    inner: int
    outer: int

    @property
    def operations(self) -> float:
        """Floating-point operations of one product."""
        return 2.0 * self.tokens * self.inner * self.outer


class MatmulTrials:
    """The trials on one device. ``compute`` is the dtype of activations; ``clock`` times the device.

    FP8 is also compared with FP32, and not timed, at the shapes ``checked``: which kernels there are depends on them.
    """

    def __init__(
        self,
        device: torch.device,
        shape: Shape,
        compute: torch.dtype,
        clock: Clock,
        checked: Sequence[Shape] = (),
    ) -> None:
        self._device = device
        self._shape = shape
        self._compute = compute
        self._clock = clock
        self._checked = checked

    def bf16(self) -> Trial:
        """A product in BF16; not proven on a card that only emulates it."""
        if self._device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            return Trial(ok=False, error="this card has no BF16 units and would emulate them slowly")
        inputs, weight, sizes = self.factors(spread=0.0)
        low, low_weight = inputs.bfloat16(), weight.bfloat16()

        def product() -> Tensor:
            return functional.linear(low, low_weight)

        return self.judge(product, inputs, weight, sizes, ERROR_LIMITS["bf16"])

    def fp8_rowwise(self) -> Trial:
        """The engine's own linear with a scale for each token and each output channel."""
        return self._fp8("rowwise", _SPREAD)

    def fp8_tensorwise(self) -> Trial:
        """The engine's own linear with one scale for each factor."""
        return self._fp8("tensorwise", 0.0)

    def fp8_storage(self) -> Trial:
        """A weight in FP8 with a scale per channel, widened to the compute dtype before the product."""
        inputs, weight, sizes = self.factors(_SPREAD)
        stored, scale = quantised(weight, rows=True)
        low, low_scale = inputs.to(self._compute), scale.to(self._compute)

        def product() -> Tensor:
            return functional.linear(low, stored.to(self._compute) * low_scale)

        return self.judge(product, inputs, weight, sizes, ERROR_LIMITS["fp8_storage"])

    def int8(self) -> Trial:
        """The engine's own linear in INT8, of rotated rows with scales of their own."""
        kind = int8_linears(self._device)

        def made(inputs: Tensor, weight: Tensor) -> tuple[Activation, PackedLinear]:
            group = rotation_group(inputs.shape[1], inputs.shape[1])
            cast, stored = rotate_to_int8(inputs.to(self._compute), group), rotate_to_int8(weight, group)
            linear = PackedLinear(stored.values, bias_of(weight).to(self._compute), stored.scale.flatten())
            return Activation(cast.values, cast.scale.flatten()), linear

        return self._quantised(kind, made, _SPREAD, ERROR_LIMITS["int8"])

    def judge(
        self,
        product: Callable[[], Tensor],
        inputs: Tensor,
        weight: Tensor,
        sizes: Tensor,
        limit: float,
        faster_than: Callable[[], Tensor] | None = None,
        bias: Tensor | None = None,
    ) -> Trial:
        """Compare with FP32, then time; ``faster_than`` is the product in BF16 that must not be faster."""
        error = relative_error(product(), functional.linear(inputs, weight, bias), sizes)
        works = (product,) if faster_than is None else (product, faster_than)
        seconds, *reference = median_seconds(self._clock, *works)
        return judged(error, limit, self._shape.operations, seconds, *reference)

    def factors(self, spread: float, shape: Shape | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Activations, a weight and the size of each result, in FP32; rows of both differ in size by ``spread``."""
        tokens, inner, outer = astuple(shape or self._shape)
        generator = torch.Generator().manual_seed(7)
        rows = torch.exp2(spread * torch.rand(tokens, 1, generator=generator))
        channels = torch.exp2(spread * torch.rand(outer, 1, generator=generator)) / 64
        inputs = torch.randn(tokens, inner, generator=generator) * rows
        weight = torch.randn(outer, inner, generator=generator) * channels
        return inputs.to(self._device), weight.to(self._device), (rows * channels.t()).to(self._device)

    def _fp8(self, scaling: Scaling, spread: float) -> Trial:
        def made(inputs: Tensor, weight: Tensor) -> tuple[Activation, PackedLinear]:
            return activation(inputs, scaling), packed(weight, scaling)

        return self._quantised(Fp8Linear(scaling), made, spread, ERROR_LIMITS["fp8"])

    def _quantised(self, kind: LinearKind, made: Quantising, spread: float, limit: float) -> Trial:
        """Compare every shape with FP32, and time the main one.

        Being faster than the compute type is asked of cards alone: a CPU has no units for such products.
        """
        for shape in self._checked:
            inputs, weight, sizes = self.factors(spread, shape)
            prepared, linear = made(inputs, weight)
            result = product(kind, prepared, linear)
            error = relative_error(result, functional.linear(inputs, weight, linear.bias.float()), sizes)
            if not error <= limit:
                wrong = f"wrong result: relative error {error:.3g} against FP32, at most {limit:g} is allowed"
                return Trial(ok=False, error=f"{wrong}, for {shape.tokens} tokens of {shape.inner}")
        inputs, weight, sizes = self.factors(spread)
        prepared, linear = made(inputs, weight)
        low, low_weight = inputs.to(linear.bias.dtype), weight.to(linear.bias.dtype)
        plain = (lambda: functional.linear(low, low_weight, linear.bias)) if self._device.type == "cuda" else None
        bias = linear.bias.float()
        return self.judge(lambda: product(kind, prepared, linear), inputs, weight, sizes, limit, plain, bias)


def activation(inputs: Tensor, scaling: Scaling) -> Activation:
    """Inputs [tokens, inner] as the engine's FP8 linears take them."""
    cast = quantise(inputs.bfloat16(), scaling)
    return Activation(cast.values, cast.scale.flatten())


def product(kind: LinearKind, x: Activation, linear: PackedLinear) -> Tensor:
    """[tokens, outer] of the bias's type."""
    out = torch.empty(len(x.values), len(linear.weight), dtype=linear.bias.dtype, device=x.values.device)
    kind.apply(x, linear, out, Workspace(out, out))
    return out


def quantised(matrix: Tensor, *, rows: bool) -> tuple[Tensor, Tensor]:
    """``matrix`` in FP8, and the FP32 scale that it is multiplied by: of shape [rows, 1], or one for all."""
    largest = matrix.abs().amax(dim=1, keepdim=True) if rows else matrix.abs().amax()
    scale = (largest / _FP8_MAX).float()
    return (matrix / scale).to(FP8), scale


def packed(weight: Tensor, scaling: Scaling) -> PackedLinear:
    """A linear of the engine from an FP32 ``weight`` [outer, inner], with a bias as large as what is added to it."""
    quantised = quantise(weight, scaling)
    return PackedLinear(quantised.values, bias_of(weight).bfloat16(), quantised.scale.flatten())


def bias_of(weight: Tensor) -> Tensor:
    """A bias [outer] as large as what it is added to."""
    signs = 1 - 2 * (torch.arange(len(weight), device=weight.device) % 2)
    bias: Tensor = torch.linalg.vector_norm(weight, dim=1) * signs
    return bias
