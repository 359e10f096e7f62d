import copy
import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import ReferenceType, ref

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from qied.engine.copying.copy_ring import CopyRing
from qied.engine.engine import Engine
from qied.engine.text.encoder import TextEncoder, TextPositions, VisionFeatures
from qied.engine.text.prompt import Grid
from qied.engine.text.streaming import layer_layout, stream_text_model
from qied.engine.weights.sources import MappedWeights
from qied.planning.layout.memory import STREAMED_SLOTS

DEVICES = [torch.device(name) for name in (["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])]
Scene = Callable[..., Image.Image]
StreamedEncoder = Callable[..., TextEncoder]


@pytest.fixture(scope="module", params=DEVICES, ids=str)
def device(request: pytest.FixtureRequest) -> torch.device:
    return request.param


@pytest.fixture(scope="module")
def resident(engine: Engine, device: torch.device) -> TextEncoder:
    encoder = engine.models.text_encoder
    return replace(encoder, model=copy.deepcopy(encoder.model).to(device), device=device, dtype=torch.float32)


@pytest.fixture
def host_model(engine: Engine) -> nn.Module:
    return copy.deepcopy(engine.models.text_encoder.model).cpu()


@pytest.fixture
def streamed(resident: TextEncoder, host_model: nn.Module, device: torch.device) -> StreamedEncoder:
    def convert(positions: TextPositions = "mrope") -> TextEncoder:
        stream_text_model(host_model, device, torch.float32, MappedWeights({}, {}))
        return replace(resident, model=host_model, positions=positions)

    return convert


class Rings:
    """Every ring that was made: its bytes, and whether it is still there."""

    def __init__(self) -> None:
        self.nbytes: list[int] = []
        self._made: list[ReferenceType[CopyRing]] = []

    def add(self, ring: CopyRing) -> None:
        self.nbytes.append(ring.nbytes)
        self._made.append(ref(ring))

    @property
    def alive(self) -> int:
        gc.collect()
        return sum(ring() is not None for ring in self._made)


@pytest.fixture
def rings(monkeypatch: pytest.MonkeyPatch) -> Rings:
    made, original = Rings(), CopyRing.__init__

    def record(self: CopyRing, *args: Any) -> None:
        original(self, *args)
        made.add(self)

    monkeypatch.setattr(CopyRing, "__init__", record)
    return made


@pytest.fixture(autouse=True)
def no_gradients() -> object:
    with torch.inference_mode():
        yield


def encoded(encoder: TextEncoder, *pictures: Image.Image) -> list[Tensor]:
    features = [encoder.vision_features(picture, (112 + 28 * n, 84)) for n, picture in enumerate(pictures)]
    return [*(each.features for each in features), encoder.prompt_embeddings("make it blue", features)]


def assert_same(first: list[Tensor], second: list[Tensor]) -> None:
    assert len(first) == len(second) > 1
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("positions", ["mrope", "plain"])
@pytest.mark.parametrize("pictures", [1, 2])
def test_streamed_layers_give_what_resident_ones_give(
    resident: TextEncoder, streamed: StreamedEncoder, scene: Scene, positions: TextPositions, pictures: int
) -> None:
    scenes = [scene(160, 120), scene(120, 160, (10, 60, 200))][:pictures]
    expected = encoded(replace(resident, positions=positions), *scenes)
    assert_same(encoded(streamed(positions), *scenes), expected)


def test_a_streamed_model_is_used_again_and_again(
    resident: TextEncoder, streamed: StreamedEncoder, scene: Scene
) -> None:
    encoder = streamed()
    for ground in ((0, 0, 0), (200, 200, 255), (0, 0, 0)):
        picture = scene(160, 120, ground)
        assert_same(encoded(encoder, picture), encoded(resident, picture))


def test_the_device_holds_two_layers_while_a_forward_runs_and_none_afterwards(
    host_model: nn.Module, device: torch.device, resident: TextEncoder, scene: Scene, rings: Rings
) -> None:
    model: Any = host_model
    largest = max(sum(weight.nbytes for weight in layers[0].parameters()) for layers in _stacks(model))
    held = stream_text_model(model, device, torch.float32, MappedWeights({}, {}))
    encoded(replace(resident, model=model), scene(160, 120))
    assert len(rings.nbytes) == 2 and rings.alive == 0
    assert largest <= max(rings.nbytes) // STREAMED_SLOTS == held.slot_bytes < 1.1 * largest


def test_the_bytes_of_every_weight_are_accounted_for(host_model: nn.Module) -> None:
    model: Any = host_model
    total = sum(tensor.nbytes for group in (model.parameters(), model.buffers()) for tensor in group)
    table = model.language_model.embed_tokens.weight.nbytes
    layers = sum(weight.nbytes for stack in _stacks(model) for weight in stack.parameters())
    held = stream_text_model(model, torch.device("cpu"), torch.float32, MappedWeights({}, {}))
    assert held.host_bytes == table + layers
    assert held.resident_bytes == total - held.host_bytes > 0


def test_layers_of_a_mapped_file_stay_in_it(
    host_model: nn.Module, resident: TextEncoder, device: torch.device, scene: Scene, tmp_path: Path
) -> None:
    model: Any = host_model
    save_file({name: weight.clone() for name, weight in model.state_dict().items()}, tmp_path / "model.safetensors")
    model.load_state_dict(load_file(tmp_path / "model.safetensors"), assign=True)
    before = {weight.data_ptr() for stack in _stacks(model) for weight in stack.parameters()}
    stream_text_model(model, device, torch.float32, MappedWeights({}, {}))
    picture = scene(160, 120)
    assert_same(encoded(replace(resident, model=model), picture), encoded(resident, picture))
    assert before == {weight.data_ptr() for stack in _stacks(model) for weight in stack.parameters()}


@pytest.mark.parametrize(("part", "stack"), [("visual", "blocks"), ("language_model", "layers")])
@pytest.mark.parametrize("index", [0, -1])
def test_a_failure_inside_a_layer_leaves_the_model_usable(
    resident: TextEncoder, streamed: StreamedEncoder, scene: Scene, rings: Rings, part: str, stack: str, index: int
) -> None:
    encoder, picture = streamed(), scene(160, 120)
    layer = getattr(getattr(encoder.model, part), stack)[index].layer
    weights = dict(layer.named_parameters())

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("too much")

    hook = layer.mlp.register_forward_pre_hook(fail)
    with pytest.raises(torch.OutOfMemoryError, match="too much"):
        encoded(encoder, picture)
    hook.remove()
    assert all(weights[name] is weight for name, weight in layer.named_parameters())
    assert rings.nbytes and rings.alive == 0
    assert_same(encoded(encoder, picture), encoded(resident, picture))


def test_embeddings_are_looked_up_in_host_memory(resident: TextEncoder, streamed: StreamedEncoder) -> None:
    encoder = streamed()
    assert encoder.model.language_model.embed_tokens.weight.device.type == "cpu"
    table = encoder.model.language_model.embed_tokens.weight.to(resident.device)
    picture = VisionFeatures(torch.rand((2, table.shape[1]), device=resident.device), Grid(1, 2))
    image = encoder.tokens.image_token
    embeddings = encoder._input_embeddings([5, 7, image, image, 5], [picture])
    assert torch.equal(embeddings, torch.stack([table[5], table[7], *picture.features, table[5]])[None])


def test_a_layer_run_by_itself_is_an_error(streamed: StreamedEncoder) -> None:
    with pytest.raises(AssertionError, match="within their model's forward"):
        streamed().model.visual.blocks[0](torch.zeros(4, 96))


def test_parameters_of_several_dtypes_come_back_as_they_were() -> None:
    layer = nn.Sequential(nn.Linear(3, 5, dtype=torch.bfloat16), nn.LayerNorm(5), nn.Linear(5, 7, dtype=torch.float64))
    weights = dict(layer.named_parameters())
    layout = layer_layout(weights)
    buffer = torch.zeros(layout.nbytes, dtype=torch.uint8)
    for offset, part in layout.parts(weights):
        assert offset % 256 == 0
        buffer[offset : offset + part.numel()] = part
    views = layout.views(buffer)
    assert views.keys() == weights.keys()
    for name, weight in weights.items():
        assert views[name].dtype == weight.dtype and torch.equal(views[name], weight)


def _stacks(model: Any) -> tuple[nn.ModuleList, nn.ModuleList]:
    return model.visual.blocks, model.language_model.layers


def test_layers_that_are_stored_smaller_stay_so_and_are_cast_one_at_a_time(
    host_model: nn.Module, resident: TextEncoder, device: torch.device, scene: Scene, rings: Rings
) -> None:
    model: Any = host_model
    for weight in model.parameters():
        weight.data = weight.data.bfloat16()
    held = stream_text_model(model, device, torch.float32, MappedWeights({}, {}))
    picture = scene(160, 120)
    cast: Any = copy.deepcopy(resident.model)
    for weight in cast.parameters():
        weight.data = weight.data.bfloat16().float()
    expected = encoded(replace(resident, model=cast), picture)
    assert_same(encoded(replace(resident, model=model), picture), expected)
    assert {weight.dtype for stack in _stacks(model) for weight in stack.parameters()} == {torch.bfloat16}
    assert held.slot_bytes == max(rings.nbytes) // STREAMED_SLOTS
