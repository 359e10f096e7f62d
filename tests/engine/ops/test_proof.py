"""Fused kernels are used where they were seen to be right; here Triton's interpreter stands in for a card."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from qied.engine.block.arena import Region, Workspace
from qied.engine.block.packed import BlockWeights
from qied.engine.ops import choice, triton_kernels
from qied.engine.ops.attention import Attention
from qied.engine.ops.linear import ExpandedLinear, linear_kind
from qied.engine.ops.proof import disproof
from qied.engine.ops.torch_operations import TorchOperations
from qied.engine.ops.triton_operations import TritonOperations, expand
from qied.planning.layout.block_layout import BlockShape
from qied.planning.layout.forward_layout import TransformerShape
from qied.planning.plan import Execution

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
NUMBERS = TransformerShape(BlockShape(256, 1024, 64), 6, "bf16", "bf16")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def fused() -> TritonOperations:
    return TritonOperations(linear_kind("bf16", None, DEVICE), Attention())


@pytest.fixture
def plain() -> TorchOperations:
    return TorchOperations(linear_kind("bf16", None, DEVICE), Attention())


def test_kernels_that_are_right_are_proven(fused: TritonOperations, plain: TorchOperations) -> None:
    assert disproof(fused, plain, NUMBERS, DEVICE) is None


def test_heads_in_fp8_are_proven_as_well_where_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = replace(NUMBERS, precision="fp8", fp8_attention=True)
    one, two = (TorchOperations(linear_kind("fp8", "rowwise", DEVICE), Attention()) for _ in range(2))
    assert disproof(one, two, numbers, DEVICE) is None
    right = one.quantised_heads

    def wrong(qkv: Tensor, region: Region, weights: BlockWeights, workspace: Workspace) -> None:
        right(qkv, region, weights, workspace)
        assert workspace.heads is not None
        workspace.heads.copy_(workspace.heads.float() * 1.25)

    monkeypatch.setattr(one, "quantised_heads", wrong)
    reason = disproof(one, two, numbers, DEVICE)
    assert reason is not None and reason.startswith("heads in FP8: relative error")


@pytest.mark.parametrize("broken", ["heads", "norm", "activate"])
def test_kernels_that_are_wrong_are_named(
    fused: TritonOperations, plain: TorchOperations, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    right: Callable[..., object] = getattr(fused, broken)

    def wrong(*arguments: object, **options: bool) -> object:
        made = right(*arguments, **options)
        spoilt: Tensor = arguments[0] if made is None else made.image.values  # type: ignore[attr-defined,assignment]
        spoilt[-1, 3] += 40
        return made

    monkeypatch.setattr(fused, broken, wrong)
    reason = disproof(fused, plain, NUMBERS, DEVICE)
    assert reason is not None and "relative error" in reason


@pytest.mark.parametrize("wrong", [False, True])
def test_where_weights_are_expanded_that_is_proven_too(wrong: bool) -> None:
    def expands(values: Tensor, scale: Tensor, out: Tensor) -> None:
        expand(values, scale * 2 if wrong else scale, out)

    fused = TritonOperations(ExpandedLinear(expands), Attention())
    plain = TorchOperations(ExpandedLinear(), Attention())
    reason = disproof(fused, plain, replace(NUMBERS, precision="fp8-storage"), DEVICE)
    assert (reason is not None and reason.startswith("linear: ")) if wrong else reason is None


def test_a_compiler_that_fails_is_a_reason_too(
    fused: TritonOperations, plain: TorchOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("PTX was compiled with an unsupported toolchain\nmore")

    monkeypatch.setattr(fused, "heads", fails)
    assert disproof(fused, plain, NUMBERS, DEVICE) == "RuntimeError: PTX was compiled with an unsupported toolchain"


def test_without_a_proof_torchs_own_kernels_run(
    execution: Callable[..., Execution], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "has_triton", lambda _: True)
    monkeypatch.setattr(triton_kernels, "norm_kernel", None)
    chosen = choice.choose_executor(execution(precision="bf16", compute="bf16"), NUMBERS, DEVICE)
    assert isinstance(chosen.operations, TorchOperations)
