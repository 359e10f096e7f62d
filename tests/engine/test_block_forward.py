from collections.abc import Callable, Generator, Iterator

import pytest
import torch
from torch import Tensor

from qied.engine.block_forward import Streams, run_block
from qied.engine.modulation_table import ModulationTable
from qied.engine.packed_block import BlockWeights, block_weights
from qied.engine.sources import TensorSource
from qied.engine.transformer import Transformer


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
    return block_weights(transformer._blocks._layout, list(transformer._blocks.buffers())[BLOCK])


@pytest.fixture
def entering(make_transformer: Make, inputs: Callable[..., object]) -> tuple[Tensor, Tensor]:
    """The residual streams in FP32 as they enter block 3."""
    transformer = make_transformer()
    forward = inputs().forward(transformer, torch.float32)
    streams = transformer._embed(forward)
    with transformer._blocks.sweep() as blocks:
        for index in range(BLOCK):
            run_block(transformer._operations, next(blocks), streams, forward.modulation, index, is_last=False)
    return streams.image, streams.text


@pytest.fixture
def update(entering: tuple[Tensor, Tensor], inputs: Callable[..., object]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Run block 3 and return what it adds to target, references and text in FP32."""

    def run(transformer: Transformer, dtype: torch.dtype, *, is_last: bool = False) -> tuple[Tensor, Tensor]:
        forward = inputs().forward(transformer, dtype)
        image, text = (stream.to(dtype, copy=True) for stream in entering)
        streams = Streams(image, text, forward.latents.shape[1], forward.rotation)
        run_block(transformer._operations, weights(transformer), streams, forward.modulation, BLOCK, is_last=is_last)
        return image.float() - entering[0], text.float() - entering[1]

    return run


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"precision": "fp8", "scaling": "rowwise"}, 0.056),
        ({"precision": "fp8", "scaling": "tensorwise"}, 0.058),
        ({"precision": "fp8-storage", "scaling": "rowwise"}, 0.042),
    ],
    ids=["fp8-rowwise", "fp8-tensorwise", "fp8-storage"],
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


def test_the_last_block_finishes_the_target_and_leaves_the_rest(
    make_transformer: Make, update: Callable[..., tuple[Tensor, Tensor]], inputs: Callable[..., object]
) -> None:
    transformer, targets = make_transformer(), inputs().latents.shape[1]
    image, text = update(transformer, torch.float32)
    last_image, last_text = update(transformer, torch.float32, is_last=True)
    torch.testing.assert_close(last_image[:targets], image[:targets], rtol=1e-4, atol=1e-4)
    assert not last_image[targets:].any() and not last_text.any()
    assert image[targets:].any() and text.any()


def test_references_are_modulated_as_at_timestep_zero_and_the_target_is_not(
    make_transformer: Make, inputs: Callable[..., object]
) -> None:
    transformer = make_transformer()
    table = made(transformer.modulation_table(torch.tensor([1.0, 0.5, 0.0])))
    early, late, clean = (transformer.step_rows(table).step(step) for step in range(3))
    assert torch.equal(early.reference, late.reference)
    torch.testing.assert_close(clean.target, clean.reference)
    assert not torch.allclose(early.target, early.reference, atol=0.01)
