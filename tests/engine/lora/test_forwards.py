"""Forwards with LoRAs on every kind of base weights, resident and streamed, alone and together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from qied_client.protocol.request import LoraChoice
from torch import Tensor

from qied.engine.block.arena import make_arena
from qied.engine.block.packed import block_weights
from qied.engine.lora.library import LoraLibrary
from qied.engine.ops.attention import Attention
from qied.engine.ops.linear import linear_kind
from qied.engine.ops.low_rank import Scaled
from qied.engine.ops.norms import modulated_norm
from qied.engine.ops.operations import StreamLinear
from qied.engine.ops.torch_operations import TorchOperations
from qied.engine.transformer.transformer import Forward, Transformer
from qied.planning.layout.forward_layout import Tokens, arena_layout

Make = Callable[..., Transformer]
Library = Callable[..., LoraLibrary]
ONE, TWO, MOVED = LoraChoice("one", 0.5), LoraChoice("two"), LoraChoice("moved", 2.0)
NUMBERS = [
    pytest.param({"precision": "fp32"}, id="fp32"),
    pytest.param({"precision": "bf16", "compute": "bf16"}, id="bf16"),
    pytest.param({"precision": "fp8", "scaling": "rowwise", "compute": "bf16"}, id="fp8-rowwise"),
    pytest.param({"precision": "fp8", "scaling": "tensorwise", "compute": "bf16"}, id="fp8-tensorwise"),
    pytest.param({"precision": "fp8-storage", "compute": "bf16"}, id="fp8-storage"),
    pytest.param(
        {"precision": "fp8", "scaling": "rowwise", "compute": "bf16", "attention": ("fp8",)}, id="fp8-attention"
    ),
]
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def dtype_of(numbers: dict[str, str]) -> torch.dtype:
    return DTYPES[numbers.get("compute", "fp32")]


@pytest.fixture
def forwards(library: Library, inputs: Callable[..., Any]) -> Callable[..., list[Forward]]:
    """Four edits: without a LoRA, with one each, and with both."""

    def make(transformer: Transformer, dtype: torch.dtype) -> list[Forward]:
        known = library(dtype=dtype)
        chosen: list[list[LoraChoice]] = [[], [ONE], [TWO], [TWO, ONE]]
        return [
            replace(inputs(seed % 2, (4, 5), (3, 3)).forward(transformer, dtype), loras=known.branches(choices))
            for seed, choices in enumerate(chosen)
        ]

    return make


@pytest.mark.parametrize("numbers", NUMBERS)
def test_edits_with_different_loras_give_the_same_bytes_together_as_alone_and_streamed(
    make_transformer: Make, forwards: Callable[..., list[Forward]], numbers: dict[str, str]
) -> None:
    transformer = make_transformer(**numbers)
    made = forwards(transformer, dtype_of(numbers))
    alone = [transformer.velocities([forward])[0] for forward in made]
    assert len({value.numpy().tobytes() for value in alone}) == 4
    streaming = make_transformer(**numbers, resident_blocks=1, ring_slots=2)
    for together in (transformer.velocities(made), streaming.velocities(made)):
        assert all(torch.equal(one, two) for one, two in zip(alone, together, strict=True))


def test_weights_of_the_base_stay_as_they_are(make_transformer: Make, forwards: Callable[..., list[Forward]]) -> None:
    transformer = make_transformer()
    before = [buffer.clone() for buffer in transformer.blocks.buffers()]
    transformer.velocities(forwards(transformer, torch.float32))
    assert all(torch.equal(one, two) for one, two in zip(before, transformer.blocks.buffers(), strict=True))


@pytest.mark.parametrize("numbers", NUMBERS[1:])
def test_a_lora_does_on_quantised_weights_what_it_does_on_exact_ones(
    make_transformer: Make, inputs: Callable[..., Any], library: Library, numbers: dict[str, str]
) -> None:
    def velocity(changes: dict[str, str], *choices: LoraChoice) -> Tensor:
        transformer, dtype = make_transformer(**changes), dtype_of(changes)
        forward = inputs(0, (4, 5), (3, 3)).forward(transformer, dtype)
        return transformer.velocities([replace(forward, loras=library(dtype=dtype).branches(choices))])[0]

    def error(value: Tensor, exact: Tensor) -> float:
        return float((value - exact).norm() / exact.norm())

    exact, without = velocity({}, ONE), velocity({})
    assert error(without, exact) > 0.1
    assert error(velocity(numbers, ONE), exact) < error(velocity(numbers), without) < 0.1


@pytest.mark.parametrize("numbers", NUMBERS[2:4])
def test_a_branch_reads_activations_as_they_are_before_they_are_quantised(
    make_transformer: Make, library: Library, numbers: dict[str, str]
) -> None:
    transformer = make_transformer(**numbers)
    weights = block_weights(transformer.blocks.layout, next(iter(transformer.blocks.buffers())))
    operations = TorchOperations(
        linear_kind(numbers["precision"], numbers.get("scaling"), torch.device("cpu")), Attention()
    )
    branch = library(dtype=torch.bfloat16).branches([LoraChoice("one")])[0].image.up[0].branch
    share = branch.shares[0]
    layout = arena_layout(transformer.shape, (Tokens(0, 7, 0),), lora_width=len(branch.down))
    arena = make_arena(layout, (Tokens(0, 7, 0),), torch.device("cpu"))
    (region,), workspace = arena.regions, arena.workspace
    # One value far above the others: in FP8 the small ones would lose most of their digits.
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(7, 256, generator=generator).bfloat16()
    x[:, 3] *= 300
    shift, scale = torch.randn(2, 256, generator=generator).bfloat16().unbind()
    region.residual.copy_(x)
    region.modulation[0, 1, 0], region.modulation[0, 1, 1] = shift, scale
    # Only what is quantised row by row is normed in FP32.
    dtype = torch.float32 if numbers.get("scaling") == "rowwise" else torch.bfloat16
    seen = modulated_norm(x.to(dtype), shift, scale).double()

    def found(*branches: Scaled) -> Tensor:
        activation = operations.norm(region, workspace, 0, weights.number, "attention", keep=True)
        out = torch.empty(7, len(weights.image.up.weight), dtype=torch.bfloat16)
        operations.linear(
            activation, StreamLinear(weights.text.up), StreamLinear(weights.image.up, branches), out, workspace
        )
        return out.double()

    # A strength at which the branch outweighs the linear itself.
    with_branch, base = found(Scaled(branch, 4096.0)), found()
    expected = base + 4096.0 * (seen @ branch.down.double().t()) @ share.up.double().t()
    assert (with_branch - expected).norm() < 0.005 * expected.norm()
