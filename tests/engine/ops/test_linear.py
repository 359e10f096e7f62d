import pytest
import torch
from torch.nn import functional

from qied.engine.ops.linear import (
    ExpandedLinear,
    PlainLinear,
    SimulatedFp8Linear,
    linear_kind,
)
from qied.engine.packed_block import PackedLinear
from qied.engine.quantise import E4M3, quantise

CPU = torch.device("cpu")


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(50, 64, generator=torch.Generator().manual_seed(1)) * torch.logspace(-2, 1, 50).unsqueeze(1)


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(96, 64, generator=torch.Generator().manual_seed(2)) / 8


def packed(weight: torch.Tensor, scaling: str, dtype: torch.dtype) -> PackedLinear:
    quantised = quantise(weight, scaling)
    return PackedLinear(quantised.values, torch.linspace(-1, 1, len(weight)).to(dtype), quantised.scale.flatten())


@pytest.mark.parametrize("scaling", ["rowwise", "tensorwise"])
def test_fp8_multiplies_the_cast_operands_in_fp32(x: torch.Tensor, weight: torch.Tensor, scaling: str) -> None:
    linear, kind = packed(weight, scaling, torch.float32), SimulatedFp8Linear(scaling)
    amax = x.abs().amax(1, keepdim=True) if scaling == "rowwise" else x.abs().max()
    tokens = (x / (amax / 448)).to(E4M3).double() * (amax.double() / 448)
    channels = linear.weight.double() * (linear.scale.double().unsqueeze(1))
    expected = tokens @ channels.T + linear.bias
    torch.testing.assert_close(kind.apply(kind.prepare(x), linear).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("scaling", "limit"), [("rowwise", 0.05), ("tensorwise", 0.06)])
def test_fp8_is_a_few_percent_from_the_exact_product(
    x: torch.Tensor, weight: torch.Tensor, scaling: str, limit: float
) -> None:
    linear, kind = packed(weight, scaling, torch.bfloat16), SimulatedFp8Linear(scaling)
    result = kind.apply(kind.prepare(x.bfloat16()), linear)
    exact = functional.linear(x, weight, linear.bias.float())
    assert result.dtype == torch.bfloat16
    assert 0.005 < (result.float() - exact).norm() / exact.norm() < limit


def test_row_wise_a_token_does_not_depend_on_the_others(x: torch.Tensor, weight: torch.Tensor) -> None:
    linear, kind = packed(weight, "rowwise", torch.bfloat16), SimulatedFp8Linear("rowwise")
    alone = torch.cat([kind.apply(kind.prepare(row), linear) for row in x.bfloat16().split(1)])
    torch.testing.assert_close(alone, kind.apply(kind.prepare(x.bfloat16()), linear))


def test_expanded_weights_are_those_of_a_plain_linear(x: torch.Tensor, weight: torch.Tensor) -> None:
    linear = packed(weight, "rowwise", torch.bfloat16)
    expanded = (linear.weight.float() * linear.scale.unsqueeze(1)).bfloat16()
    plain = PlainLinear().apply(x.bfloat16(), PackedLinear(expanded, linear.bias, None))
    assert torch.equal(ExpandedLinear().apply(x.bfloat16(), linear), plain)


@pytest.mark.parametrize(
    ("precision", "kind"),
    [("fp8", SimulatedFp8Linear), ("fp8-storage", ExpandedLinear), ("bf16", PlainLinear), ("fp32", PlainLinear)],
)
def test_each_precision_has_its_kind_and_fp8_is_simulated_without_its_cores(precision: str, kind: type) -> None:
    assert type(linear_kind(precision, None, CPU)) is kind
