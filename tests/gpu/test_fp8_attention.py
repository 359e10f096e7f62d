"""cuDNN's attention in FP8 on a card: what it computes, where it reads, and that graphs hold what they need of it."""

import gc
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from qied.checkpoints.pipeline_folder import STEMS, read_json, weight_files
from qied.engine.block.graphs import BlockGraphs, Direct, GraphRecorder
from qied.engine.engine import EngineOptions
from qied.engine.ops.cudnn_attention import CudnnFp8Attention
from qied.engine.ops.fp8_attention import LARGEST_VALUE, ScaleRow, SimulatedFp8Attention
from qied.engine.transformer.modulation_table import ModulationTable
from qied.engine.transformer.transformer import Forward, Transformer, load_transformer
from qied.engine.weights.sources import FileSource, WeightReader
from qied.planning.layout.forward_layout import ATTENTION_SCALES
from qied.planning.profiles.model_profile import shipped_profiles
from qied.resources import builtin_model_folder

pytestmark = [
    pytest.mark.card,
    pytest.mark.skipif(
        not torch.cuda.is_available() or torch.cuda.get_device_capability() < (9, 0), reason="needs a card from 9.0 on"
    ),
    pytest.mark.skipif(importlib.util.find_spec("cudnn") is None, reason="needs nvidia-cudnn-frontend"),
]
PROFILE = shipped_profiles()["builtin"]
DEVICE = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def operands(rows: int, head: int, heads: int = 4, peak: float = 1.0) -> tuple[Tensor, Tensor]:
    """QKV E4M3 [rows, 3, heads, head], followed by NaN that nobody may read, and its scales."""
    generator = torch.Generator().manual_seed(rows)
    drawn = torch.randn(rows, 3, heads, head, generator=generator).cuda()
    drawn[:, 2, :, 3] *= peak
    scales = torch.zeros(ATTENTION_SCALES, device=DEVICE)
    steps = scales[:, 0]
    steps[: ScaleRow.V] = drawn[:, :2].abs().amax((0, 2, 3)) / 448
    steps[ScaleRow.V] = drawn[:, 2].abs().amax() / LARGEST_VALUE
    steps[ScaleRow.UNWEIGHT], steps[ScaleRow.WEIGHT] = 1 / 448, 448
    steps[ScaleRow.RESULT] = 1 / steps[ScaleRow.V]
    memory = torch.full((rows + 256, 3, heads, head), torch.nan, device=DEVICE).to(torch.float8_e4m3fn)
    memory[:rows] = (drawn / steps[:3].view(1, 3, 1, 1)).to(torch.float8_e4m3fn)
    return memory[:rows], scales


@pytest.mark.parametrize("peak", [1.0, 3000.0])
@pytest.mark.parametrize("head", [64, 128])
@pytest.mark.parametrize(
    ("rows", "first", "stop"), [(2432, 0, 2432), (2085, 0, 2085), (485, 37, 293), (301, 45, 301), (16, 5, 12)]
)
def test_cudnn_computes_what_is_simulated(rows: int, first: int, stop: int, head: int, peak: float) -> None:
    heads, scales = operands(rows, head, peak=peak)
    out = torch.zeros(stop - first + 8, 4, head, device=DEVICE).to(torch.float8_e4m3fn)
    expected = torch.zeros_like(out)
    CudnnFp8Attention(DEVICE)(heads, first, scales, out[: stop - first])
    SimulatedFp8Attention()(heads, first, scales, expected[: stop - first])
    found, right = out.float(), expected.float()
    assert torch.isfinite(found).all()
    assert (found[stop - first :] == 0).all()
    assert (found - right).norm() / right.norm() < 0.05


def test_a_record_holds_its_plan_when_others_took_its_place() -> None:
    attention = CudnnFp8Attention(DEVICE, limit=1)
    heads, scales = operands(300, 64)
    out = torch.zeros(300, 4, 64, device=DEVICE).to(torch.float8_e4m3fn)

    def launch() -> None:
        attention(heads, 0, scales, out)

    launch()
    expected = out.float()
    replay = GraphRecorder(DEVICE).record(launch)
    for rows in (320, 340, 360):
        others, other_scales = operands(rows, 64)
        attention(others, 0, other_scales, torch.empty(rows, 4, 64, device=DEVICE).to(torch.float8_e4m3fn))
    assert len(attention._plans) == 1
    gc.collect()
    torch.cuda.empty_cache()
    out.copy_(torch.zeros_like(expected))
    replay()
    assert torch.equal(out.float(), expected)


def test_nothing_is_built_while_a_graph_is_recorded() -> None:
    attention = CudnnFp8Attention(DEVICE)
    heads, scales = operands(300, 64)
    out = torch.zeros(300, 4, 64, device=DEVICE).to(torch.float8_e4m3fn)
    with pytest.raises(RuntimeError, match="captured"):
        GraphRecorder(DEVICE).record(lambda: attention(heads, 0, scales, out))
    attention(heads, 0, scales, out)
    assert torch.isfinite(out.float()).all()


@pytest.fixture
def make() -> Callable[..., Transformer]:
    """Load the built-in model's transformer to the card in FP8; any field of the execution can be replaced."""
    folder = builtin_model_folder() / "transformer"

    def load(**changes: object) -> Transformer:
        source = FileSource("transformer", weight_files(folder, STEMS["transformer"]))
        plain = EngineOptions("cuda", "bf16").resolved(PROFILE)
        execution = replace(plain, precision="fp8", scaling="rowwise", **changes)
        config, reader = read_json(folder / "config.json"), WeightReader(source.nbytes, lambda *_: None)
        return load_transformer(config, source, execution, DEVICE, reader)

    return load


def forward(transformer: Transformer, side: int, text: int) -> Forward:
    generator = torch.Generator().manual_seed(side)

    def drawn(tokens: int, width: int) -> Tensor:
        return torch.randn(1, tokens, width, generator=generator).cuda()

    making = transformer.modulation_table(torch.tensor([0.9, 0.5]))
    while True:
        try:
            next(making)
        except StopIteration as made:
            table: ModulationTable = made.value
            break
    return Forward(
        drawn(side * side, 64),
        drawn(192, 64).bfloat16(),
        drawn(text, 128).bfloat16(),
        transformer.rotation([(1, side, side), (1, 12, 16)], text),
        transformer.step_rows(table).step(0),
    )


def test_recorded_blocks_give_the_bits_of_plain_launches(make: Callable[..., Transformer]) -> None:
    transformer = make(attention=("fp8",))
    assert isinstance(transformer.operations.fp8_attention.kernel, CudnnFp8Attention)
    given = [forward(transformer, side, text) for side, text in ((16, 37), (12, 50))]
    graphs = transformer._runner
    assert isinstance(graphs, BlockGraphs)
    transformer._runner = Direct()
    plain = [transformer.velocities([each])[0] for each in given]
    transformer._runner = graphs
    for _ in range(4):
        for each, expected in zip(given, plain, strict=True):
            assert torch.equal(transformer.velocities([each])[0], expected)
    assert len(graphs) == 2 * PROFILE.architecture.layers
    assert not transformer.operations.fp8_attention._refused


def test_a_forward_is_that_of_attention_in_bf16_but_for_some_percent(make: Callable[..., Transformer]) -> None:
    exact, transformer = make(), make(attention=("fp8",))
    expected = exact.velocities([forward(exact, 16, 37)])[0]
    found = transformer.velocities([forward(transformer, 16, 37)])[0]
    assert 0 < (found - expected).norm() / expected.norm() < 0.1
