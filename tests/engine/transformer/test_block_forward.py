from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from qied.engine.block.arena import Region, Workspace, make_arena
from qied.engine.block.packed import BlockWeights, block_weights
from qied.engine.transformer.block_forward import run_block
from qied.engine.transformer.modulation_table import ModulationTable
from qied.engine.transformer.transformer import Forward, Transformer
from qied.engine.weights.sources import TensorSource
from qied.planning.layout.forward_layout import arena_layout


def made(making: Generator[tuple[int, int], None, ModulationTable]) -> ModulationTable:
    """Let a table be made to its end."""
    while True:
        try:
            next(making)
        except StopIteration as end:
            table: ModulationTable = end.value
            return table


BLOCK = 3
Make = Callable[..., Transformer]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def weights(transformer: Transformer) -> BlockWeights:
    return block_weights(transformer.blocks.layout, list(transformer.blocks.buffers())[BLOCK])


def arena_of(transformer: Transformer, forward: Forward) -> tuple[Region, Workspace]:
    layout = arena_layout(transformer.shape, (forward.tokens,))
    arena = make_arena(layout, (forward.tokens,), torch.device("cpu"))
    transformer._enter(forward, arena.regions[0])
    return arena.regions[0], arena.workspace


@pytest.fixture
def entering(make_transformer: Make, inputs: Callable[..., object]) -> tuple[Tensor, Tensor]:
    """The residual streams in FP32 as they enter block 3, and what is to be added to them yet."""
    transformer = make_transformer()
    region, workspace = arena_of(transformer, inputs().forward(transformer, torch.float32))
    with transformer.blocks.sweep() as blocks:
        for index in range(BLOCK):
            run_block(transformer.operations, next(blocks), region, workspace, index)
    return region.residual.clone(), region.update.clone()


@pytest.fixture
def update(entering: tuple[Tensor, Tensor], inputs: Callable[..., object]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Run block 3, or as the last one, and return what it adds to target and references, and to the text, in FP32."""

    def run(transformer: Transformer, dtype: torch.dtype, *, is_last: bool = False) -> tuple[Tensor, Tensor]:
        region, workspace = arena_of(transformer, inputs().forward(transformer, dtype))
        region.residual.copy_(entering[0])
        region.update.copy_(entering[1])
        if is_last:
            region = replace(region, modulation=region.modulation[: BLOCK + 2])
        run_block(transformer.operations, weights(transformer), region, workspace, BLOCK)
        text, target = region.tokens.text, region.tokens.target
        kinds = torch.tensor([0] * text + [1] * target + [2] * region.tokens.reference)
        due = region.modulation[BLOCK - 1, kinds, 5].float() * entering[1]
        added = region.modulation[BLOCK, kinds, 5].float() * region.update.float()
        whole = region.residual.float() + added - entering[0] - due
        if is_last:
            whole[:text], whole[text + target :] = 0, 0
        return whole[text:], whole[:text]

    return run


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"precision": "fp8", "scaling": "rowwise"}, 0.056),
        ({"precision": "fp8", "scaling": "rowwise", "attention": ("fp8",)}, 0.07),
        ({"precision": "fp8", "scaling": "tensorwise"}, 0.058),
        ({"precision": "fp8-storage", "scaling": "rowwise"}, 0.042),
    ],
    ids=["fp8-rowwise", "fp8-attention", "fp8-tensorwise", "fp8-storage"],
)
def test_fp8_changes_a_blocks_update_by_a_few_percent(
    make_transformer: Make,
    random_weights: TensorSource,
    update: Callable[..., tuple[Tensor, Tensor]],
    changes: dict[str, str],
    limit: float,
) -> None:
    exact = update(make_transformer(random_weights), torch.float32)
    rounded = update(make_transformer(random_weights, **changes), torch.float32)
    for value, expected in zip(rounded, exact, strict=True):
        assert 0.003 < (value - expected).norm() / expected.norm() < limit


def test_the_last_block_finishes_the_target_as_any_other_would(
    make_transformer: Make, update: Callable[..., tuple[Tensor, Tensor]], inputs: Callable[..., object]
) -> None:
    transformer, targets = make_transformer(), inputs().latents.shape[1]
    image, _ = update(transformer, torch.float32)
    last_image, _ = update(transformer, torch.float32, is_last=True)
    torch.testing.assert_close(last_image[:targets], image[:targets], rtol=1e-4, atol=1e-4)


def test_in_fp8_too_the_last_blocks_queries_are_the_targets(
    make_transformer: Make, update: Callable[..., tuple[Tensor, Tensor]], inputs: Callable[..., object]
) -> None:
    transformer = make_transformer(precision="fp8", scaling="rowwise", attention=("fp8",))
    targets = inputs().latents.shape[1]
    image, last_image = (update(transformer, torch.float32, is_last=is_last)[0][:targets] for is_last in (False, True))
    assert (image - last_image).norm() / image.norm() < 0.01


def test_references_are_modulated_as_at_timestep_zero_and_the_target_is_not(
    make_transformer: Make, inputs: Callable[..., object]
) -> None:
    transformer = make_transformer()
    table = made(transformer.modulation_table(torch.tensor([1.0, 0.5, 0.0])))
    early, late, clean = (transformer.step_rows(table).step(step) for step in range(3))
    assert torch.equal(early.reference, late.reference)
    torch.testing.assert_close(clean.target, clean.reference)
    assert not torch.allclose(early.target, early.reference, atol=0.01)
