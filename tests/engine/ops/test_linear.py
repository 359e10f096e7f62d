import importlib.util

import pytest
import torch
from torch.nn import functional

from qied.engine.block.arena import Workspace
from qied.engine.block.packed import PackedLinear
from qied.engine.ops.linear import (
    ExpandedLinear,
    Fp8Linear,
    Int8LinearByTorch,
    LinearKind,
    PlainLinear,
    SimulatedFp8Linear,
    SimulatedInt8Linear,
    linear_kind,
)
from qied.engine.ops.operations import Activation
from qied.engine.weights.quantise import E4M3, quantise, rotate_to_int8
from qied.engine.weights.rotation import rotate

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


def prepared(x: torch.Tensor, scaling: str) -> Activation:
    quantised = quantise(x, scaling)
    return Activation(quantised.values, quantised.scale.flatten())


def applied(kind: LinearKind, x: Activation, linear: PackedLinear) -> torch.Tensor:
    out = torch.empty(len(x.values), len(linear.weight), dtype=linear.bias.dtype)
    workspace = Workspace(out, out, expanded=torch.empty(linear.weight.numel(), dtype=linear.bias.dtype))
    kind.apply(x, linear, out, workspace)
    return out


@pytest.mark.parametrize("scaling", ["rowwise", "tensorwise"])
def test_fp8_multiplies_the_cast_operands_in_fp32(x: torch.Tensor, weight: torch.Tensor, scaling: str) -> None:
    linear, kind = packed(weight, scaling, torch.float32), SimulatedFp8Linear(scaling)
    amax = x.abs().amax(1, keepdim=True) if scaling == "rowwise" else x.abs().max()
    tokens = (x / (amax / 448)).to(E4M3).double() * (amax.double() / 448)
    channels = linear.weight.double() * (linear.scale.double().unsqueeze(1))
    expected = tokens @ channels.T + linear.bias
    torch.testing.assert_close(applied(kind, prepared(x, scaling), linear).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("scaling", "limit"), [("rowwise", 0.05), ("tensorwise", 0.06)])
def test_fp8_is_a_few_percent_from_the_exact_product(
    x: torch.Tensor, weight: torch.Tensor, scaling: str, limit: float
) -> None:
    linear, kind = packed(weight, scaling, torch.bfloat16), SimulatedFp8Linear(scaling)
    result = applied(kind, prepared(x.bfloat16(), scaling), linear)
    exact = functional.linear(x, weight, linear.bias.float())
    assert result.dtype == torch.bfloat16
    assert 0.005 < (result.float() - exact).norm() / exact.norm() < limit


def test_row_wise_a_token_does_not_depend_on_the_others(x: torch.Tensor, weight: torch.Tensor) -> None:
    linear, kind = packed(weight, "rowwise", torch.bfloat16), SimulatedFp8Linear("rowwise")
    alone = torch.cat([applied(kind, prepared(row, "rowwise"), linear) for row in x.bfloat16().split(1)])
    torch.testing.assert_close(alone, applied(kind, prepared(x.bfloat16(), "rowwise"), linear))


def test_expanded_weights_are_those_of_a_plain_linear(x: torch.Tensor, weight: torch.Tensor) -> None:
    linear = packed(weight, "rowwise", torch.bfloat16)
    expanded = (linear.weight.float() * linear.scale.unsqueeze(1)).bfloat16()
    plain = applied(PlainLinear(), Activation(x.bfloat16()), PackedLinear(expanded, linear.bias, None))
    assert torch.equal(applied(ExpandedLinear(), Activation(x.bfloat16()), linear), plain)


@pytest.mark.parametrize(
    ("precision", "kind"),
    [("fp8", SimulatedFp8Linear), ("fp8-storage", ExpandedLinear), ("bf16", PlainLinear), ("fp32", PlainLinear)],
)
def test_each_precision_has_its_kind_and_fp8_is_simulated_without_its_cores(precision: str, kind: type) -> None:
    assert type(linear_kind(precision, None, CPU)) is kind


class ScaledProduct:
    """Stands in for the product of the tensor cores: checks what it is given and computes it in FP32.

    ``refusal`` is raised wherever a bias is asked for, and ``every_time`` always.
    """

    def __init__(self, refusal: Exception | None = None, every_time: Exception | None = None) -> None:
        self.refusal, self.every_time = refusal, every_time
        self.biases: list[bool] = []

    def __call__(
        self,
        values: torch.Tensor,
        weight: torch.Tensor,
        *,
        scale_a: torch.Tensor,
        scale_b: torch.Tensor,
        bias: torch.Tensor | None,
        out_dtype: torch.dtype,
        use_fast_accum: bool,
        out: torch.Tensor,
    ) -> None:
        self.biases.append(bias is not None)
        if bias is not None and self.refusal is not None:
            raise self.refusal
        if self.every_time is not None:
            raise self.every_time
        assert values.dtype == weight.dtype == E4M3 and use_fast_accum
        assert values.is_contiguous() and weight.t().is_contiguous(), "row times column"
        assert scale_a.dtype == scale_b.dtype == torch.float32
        if scale_a.dim() == 0:
            assert scale_b.dim() == 0
        else:
            assert scale_a.shape == (len(values), 1) and scale_b.shape == (1, weight.shape[1])
            assert scale_a.is_contiguous() and scale_b.is_contiguous()
        assert bias is None or bias.dtype == out_dtype
        product = (values.float() @ weight.float()) * scale_a * scale_b
        out.copy_((product if bias is None else product + bias.float()).to(out_dtype))


@pytest.mark.parametrize("scaling", ["rowwise", "tensorwise"])
@pytest.mark.parametrize(
    "refusal",
    [
        None,
        "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmulAlgoGetHeuristic(`",
        "CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasLtMatmul(`",
        "cutlass cannot run, Error Internal",
    ],
)
def test_the_product_of_the_tensor_cores_is_that_of_the_simulation_with_or_without_a_kernel_for_the_bias(
    x: torch.Tensor, weight: torch.Tensor, monkeypatch: pytest.MonkeyPatch, scaling: str, refusal: str | None
) -> None:
    product = ScaledProduct(RuntimeError(refusal) if refusal else None)
    monkeypatch.setattr(torch, "_scaled_mm", product)
    linear, kind = packed(weight, scaling, torch.bfloat16), Fp8Linear(scaling)
    activation = prepared(x.bfloat16(), scaling)
    expected = applied(SimulatedFp8Linear(scaling), activation, linear).float()
    for _ in range(2):
        torch.testing.assert_close(applied(kind, activation, linear).float(), expected, rtol=0.01, atol=0.01)
    assert product.biases == ([True, False, False] if refusal else [True, True])


def test_a_shape_without_a_kernel_for_the_bias_says_nothing_of_other_shapes(
    x: torch.Tensor, weight: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = ScaledProduct(RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED"))
    monkeypatch.setattr(torch, "_scaled_mm", product)
    linear, kind = packed(weight, "rowwise", torch.bfloat16), Fp8Linear("rowwise")
    applied(kind, prepared(x.bfloat16(), "rowwise"), linear)
    product.refusal = None
    applied(kind, prepared(x[:7].bfloat16(), "rowwise"), linear)
    assert product.biases == [True, False, True]


def test_what_fails_without_a_bias_too_is_raised_and_tried_anew_next_time(
    x: torch.Tensor, weight: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = ScaledProduct(RuntimeError("first"), RuntimeError("second"))
    monkeypatch.setattr(torch, "_scaled_mm", product)
    linear, kind = packed(weight, "rowwise", torch.bfloat16), Fp8Linear("rowwise")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="second"):
            applied(kind, prepared(x.bfloat16(), "rowwise"), linear)
    assert product.biases == [True, False] * 2


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")])
def test_memory_that_ran_out_is_not_taken_for_a_kernel_that_is_missing(
    x: torch.Tensor, weight: torch.Tensor, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    product = ScaledProduct(error)
    monkeypatch.setattr(torch, "_scaled_mm", product)
    linear, kind = packed(weight, "rowwise", torch.bfloat16), Fp8Linear("rowwise")
    with pytest.raises(RuntimeError, match=str(error)):
        applied(kind, prepared(x.bfloat16(), "rowwise"), linear)
    assert product.biases == [True]


INPUTS, GROUP = 320, 64


def in_int8(rows: int, seed: int) -> tuple[torch.Tensor, Activation]:
    drawn = torch.randn(rows, INPUTS, generator=torch.Generator().manual_seed(seed))
    drawn[:, 7] *= 50
    quantised = rotate_to_int8(drawn, GROUP)
    return drawn, Activation(quantised.values, quantised.scale.flatten())


def int8_kinds() -> list[LinearKind]:
    kinds: list[LinearKind] = [SimulatedInt8Linear(), Int8LinearByTorch()]
    if importlib.util.find_spec("triton") is not None:
        from qied.engine.ops.int8_linear import Int8Linear

        kinds += [Int8Linear((8, 6), 3), Int8Linear((9, 0), 3)]
    return kinds


@pytest.mark.parametrize("kind", int8_kinds(), ids=lambda kind: type(kind).__name__)
@pytest.mark.parametrize("rows", [3, 200, 700])
def test_int8_sums_exactly_and_scales_rows_and_outputs(kind: LinearKind, rows: int) -> None:
    _, x = in_int8(rows, 1)
    _, weight = in_int8(96, 2)
    linear = PackedLinear(weight.values, torch.linspace(-1, 1, 96), weight.scale)
    sums = x.values.double() @ weight.values.double().T
    expected = sums * x.scale.double().unsqueeze(1) * weight.scale.double() + linear.bias
    torch.testing.assert_close(applied(kind, x, linear).double(), expected, rtol=1e-6, atol=1e-5)


def test_the_rotation_spreads_a_large_input_and_leaves_the_product_as_it_is() -> None:
    plain, x = in_int8(40, 1)
    other, weight = in_int8(96, 2)
    linear = PackedLinear(weight.values, torch.zeros(96), weight.scale)
    exact = plain.double() @ other.double().T
    error = (applied(SimulatedInt8Linear(), x, linear).double() - exact).norm() / exact.norm()
    unrotated = rotate_to_int8(plain, 1)
    rounded = (unrotated.values.double() * unrotated.scale.double() - plain).norm() / plain.norm()
    turned = rotate_to_int8(plain, GROUP)
    assert error < 0.02
    assert (turned.values.double() * turned.scale.double() - rotate(plain, GROUP)).norm() / plain.norm() < rounded / 2


def test_int8_sums_of_the_widest_linears_are_exact() -> None:
    x = Activation(torch.full((2, 12288), 127, dtype=torch.int8), torch.ones(2))
    linear = PackedLinear(torch.full((4, 12288), 127, dtype=torch.int8), torch.zeros(4), torch.ones(4))
    for kind in int8_kinds():
        assert (applied(kind, x, linear) == 127 * 127 * 12288).all()
