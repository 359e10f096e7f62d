"""The fused executor on a card: graphs, streams and sweeps give the bits of plain launches."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from qied.checkpoints.pipeline_folder import STEMS, read_json, weight_files
from qied.engine.block.graphs import BlockGraphs, Direct
from qied.engine.engine import EngineOptions
from qied.engine.ops.torch_operations import TorchOperations
from qied.engine.transformer.modulation_table import ModulationTable
from qied.engine.transformer.transformer import Forward, Transformer, load_transformer
from qied.engine.weights.sources import FileSource, WeightReader
from qied.planning.profiles.model_profile import shipped_profiles
from qied.resources import builtin_model_folder

pytestmark = [pytest.mark.card, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")]
PROFILE = shipped_profiles()["builtin"]
NUMBERS = [
    pytest.param({"precision": "fp8", "scaling": "rowwise"}, id="fp8-rowwise"),
    pytest.param({"precision": "fp8", "scaling": "tensorwise"}, id="fp8-tensorwise"),
    pytest.param({"precision": "fp8-storage", "scaling": "rowwise"}, id="fp8-storage"),
    pytest.param({"precision": "bf16", "scaling": None}, id="bf16"),
]
Make = Callable[..., Transformer]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture
def make() -> Make:
    """Load the built-in model's transformer to the card; any field of the execution can be replaced."""
    folder = builtin_model_folder() / "transformer"

    def load(**changes: object) -> Transformer:
        source = FileSource("transformer", weight_files(folder, STEMS["transformer"]))
        execution = replace(EngineOptions("cuda", "bf16").resolved(PROFILE), **changes)
        config, reader = read_json(folder / "config.json"), WeightReader(source.nbytes, lambda *_: None)
        return load_transformer(config, source, execution, torch.device("cuda", 0), reader)

    return load


def forward(transformer: Transformer, seed: int = 0, side: int = 16, text: int = 37) -> Forward:
    generator = torch.Generator().manual_seed(seed)

    def drawn(tokens: int, width: int) -> Tensor:
        return torch.randn(1, tokens, width, generator=generator).cuda()

    making = transformer.modulation_table(torch.tensor([0.9, 0.5]))
    while True:
        try:
            next(making)
        except StopIteration as made:
            table: ModulationTable = made.value
            break
    shapes = [(1, side, side), (1, 12, 16)]
    return Forward(
        drawn(side * side, 64),
        drawn(192, 64).bfloat16(),
        drawn(text, 128).bfloat16(),
        transformer.rotation(shapes, text + 5),
        transformer.step_rows(table).step(seed % 2),
    )


@pytest.mark.parametrize("numbers", NUMBERS)
def test_recorded_blocks_give_the_bits_of_plain_launches(make: Make, numbers: dict[str, str]) -> None:
    transformer = make(**numbers)
    given = [forward(transformer, seed, side, text) for seed, side, text in ((0, 16, 37), (1, 12, 50))]
    graphs = transformer._runner
    assert isinstance(graphs, BlockGraphs)
    transformer._runner = Direct()
    plain = [transformer.velocities([each])[0] for each in given]
    transformer._runner = graphs
    for _ in range(4):
        for each, expected in zip(given, plain, strict=True):
            assert torch.equal(transformer.velocities([each])[0], expected)
    assert len(graphs) == 2 * PROFILE.architecture.layers
    for _ in range(3):
        together = transformer.velocities(given)
        assert all(torch.equal(one, two) for one, two in zip(together, plain, strict=True))
    graphs.clear()
    assert torch.equal(transformer.velocities(given[:1])[0], plain[0])


@pytest.mark.parametrize("numbers", NUMBERS)
def test_streamed_blocks_give_the_bits_of_resident_ones(make: Make, numbers: dict[str, str]) -> None:
    resident, streamed = make(**numbers), make(**numbers, resident_blocks=2, ring_slots=2, pin=True)
    expected = resident.velocities([forward(resident)])[0]
    for _ in range(4):
        assert torch.equal(streamed.velocities([forward(streamed)])[0], expected)


@pytest.mark.parametrize("numbers", NUMBERS)
def test_fused_kernels_are_as_close_to_the_exact_result_as_torchs_own(make: Make, numbers: dict[str, str]) -> None:
    exact = make(precision="fp32", scaling=None, compute="fp32")
    given = forward(exact)
    wide = replace(given, references=given.references.float(), embeddings=given.embeddings.float())
    reference = exact.velocities([wide])[0]
    transformer = make(**numbers)
    given = forward(transformer)
    fused = transformer.velocities([given])[0]
    operations = transformer.operations
    transformer.operations = TorchOperations(operations._linears, operations._attention)
    transformer._runner = Direct()
    plain = transformer.velocities([given])[0]
    errors = [float((value - reference).norm() / reference.norm()) for value in (fused, plain)]
    assert errors[0] < 1.1 * errors[1] < 0.2, errors


def test_no_more_graphs_are_kept_than_allowed(make: Make) -> None:
    transformer = make()
    graphs = transformer._runner
    assert isinstance(graphs, BlockGraphs)
    graphs._limit = 10
    for text in (20, 30, 40):
        given = forward(transformer, text=text)
        for _ in range(3):
            transformer.velocities([given])
        assert len(graphs) <= 10
