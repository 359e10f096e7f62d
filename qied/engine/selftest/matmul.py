"""Trials of matrix products: BF16, FP8 with scales per row and per tensor, and FP8 weights that are widened first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from qied.engine.selftest.measure import ERROR_LIMITS, Clock, judged, median_seconds, relative_error
from qied.hardware.snapshot import Trial

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
    """The trials on one device. ``compute`` is the dtype of activations; ``clock`` times the device."""

    def __init__(self, device: torch.device, shape: Shape, compute: torch.dtype, clock: Clock) -> None:
        self._device = device
        self._shape = shape
        self._compute = compute
        self._clock = clock

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
        """``torch._scaled_mm`` with a scale for each token and each output channel."""
        inputs, weight, sizes = self.factors(_SPREAD)
        low, scale = quantised(inputs, rows=True)
        low_weight, weight_scale = quantised(weight, rows=True)
        scales = scale, weight_scale.t().contiguous()
        return self._judge_fp8(inputs, weight, sizes, scaled_product(low, low_weight, *scales))

    def fp8_tensorwise(self) -> Trial:
        """``torch._scaled_mm`` with one scale for each factor."""
        inputs, weight, sizes = self.factors(spread=0.0)
        low, scale = quantised(inputs, rows=False)
        low_weight, weight_scale = quantised(weight, rows=False)
        return self._judge_fp8(inputs, weight, sizes, scaled_product(low, low_weight, scale, weight_scale))

    def fp8_storage(self) -> Trial:
        """A weight in FP8 with a scale per channel, widened to the compute dtype before the product."""
        inputs, weight, sizes = self.factors(_SPREAD)
        stored, scale = quantised(weight, rows=True)
        low, low_scale = inputs.to(self._compute), scale.to(self._compute)

        def product() -> Tensor:
            return functional.linear(low, stored.to(self._compute) * low_scale)

        return self.judge(product, inputs, weight, sizes, ERROR_LIMITS["fp8_storage"])

    def judge(
        self,
        product: Callable[[], Tensor],
        inputs: Tensor,
        weight: Tensor,
        sizes: Tensor,
        limit: float,
        faster_than: Callable[[], Tensor] | None = None,
    ) -> Trial:
        """Compare with FP32, then time; ``faster_than`` is the product in BF16 that must not be faster."""
        error = relative_error(product(), functional.linear(inputs, weight), sizes)
        works = (product,) if faster_than is None else (product, faster_than)
        seconds, *reference = median_seconds(self._clock, *works)
        return judged(error, limit, self._shape.operations, seconds, *reference)

    def factors(self, spread: float) -> tuple[Tensor, Tensor, Tensor]:
        """Activations, a weight and the size of each result, in FP32; rows of both differ in size by ``spread``."""
        generator = torch.Generator().manual_seed(7)
        rows = torch.exp2(spread * torch.rand(self._shape.tokens, 1, generator=generator))
        channels = torch.exp2(spread * torch.rand(self._shape.outer, 1, generator=generator)) / 64
        inputs = torch.randn(self._shape.tokens, self._shape.inner, generator=generator) * rows
        weight = torch.randn(self._shape.outer, self._shape.inner, generator=generator) * channels
        return inputs.to(self._device), weight.to(self._device), (rows * channels.t()).to(self._device)

    def _judge_fp8(self, inputs: Tensor, weight: Tensor, sizes: Tensor, product: Callable[[], Tensor]) -> Trial:
        """Being faster than BF16 is asked of cards alone: a CPU has no units for FP8."""
        limit = ERROR_LIMITS["fp8"]
        if self._device.type != "cuda":
            return self.judge(product, inputs, weight, sizes, limit)
        low, low_weight = inputs.bfloat16(), weight.bfloat16()
        return self.judge(product, inputs, weight, sizes, limit, lambda: functional.linear(low, low_weight))


def quantised(matrix: Tensor, *, rows: bool) -> tuple[Tensor, Tensor]:
    """``matrix`` in FP8, and the FP32 scale that it is multiplied by: of shape [rows, 1], or one for all."""
    largest = matrix.abs().amax(dim=1, keepdim=True) if rows else matrix.abs().amax()
    scale = (largest / _FP8_MAX).float()
    return (matrix / scale).to(FP8), scale


def scaled_product(inputs: Tensor, weight: Tensor, scale: Tensor, weight_scale: Tensor) -> Callable[[], Tensor]:
    """The product of FP8 [tokens, inner] and [outer, inner] with their scales, in BF16."""

    def product() -> Tensor:
        return torch._scaled_mm(inputs, weight.t(), scale, weight_scale, out_dtype=torch.bfloat16, use_fast_accum=True)

    return product
