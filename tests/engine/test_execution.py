"""A whole edit under every execution that a plan can ask for."""

import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from qied_client.errors import ModelUnsupported
from torch import Tensor

from benchmarks.part_runs.dense_source import DenseSource
from qied.edit import EditSpec
from qied.engine.edits.context import Advance
from qied.engine.edits.edit import Edit
from qied.engine.engine import Engine, EngineOptions
from qied.engine.models import open_pipeline
from qied.engine.ops.attention import BACKENDS
from qied.engine.weights.sources import TensorSource
from qied.planning.edits.view import View
from qied.planning.plan import Execution
from qied.planning.profiles.model_profile import ModelProfile
from qied.resources import builtin_model_folder

Load = Callable[..., Engine]
RunEdit = Callable[[Engine], bytes]
STREAMED = {"resident_blocks": 2, "ring_slots": 2, "text_encoder": "streamed"}


@pytest.fixture
def load(profile: ModelProfile, execution: Callable[..., Execution]) -> Load:
    def engine(**changes: object) -> Engine:
        options = EngineOptions(execution=execution(**changes))
        return Engine.load(builtin_model_folder(), profile, options, lambda *_: None)

    return engine


@pytest.fixture
def run(
    scene: Callable[..., Image.Image], spec: Callable[..., EditSpec], finish: Callable[[Edit], list[Advance]]
) -> RunEdit:
    wanted = spec(width=96, height=128, steps=2, true_cfg_scale=2.0, negative_prompt=" ")

    def edit(engine: Engine) -> bytes:
        image = finish(engine.begin(wanted, {"a": scene(128, 128)}, None))[-1].image
        assert image is not None
        return image.tobytes()

    return edit


@pytest.mark.parametrize("pin", [False, True])
@pytest.mark.parametrize(
    "numbers",
    [{}, {"precision": "fp8", "compute": "bf16"}, {"precision": "fp8-storage", "compute": "bf16"}],
    ids=["fp32", "fp8", "fp8-storage"],
)
def test_a_streamed_edit_has_the_bytes_of_a_resident_one(
    load: Load, run: RunEdit, numbers: dict[str, str], pin: bool
) -> None:
    assert run(load(**numbers, **STREAMED, pin=pin)) == run(load(**numbers))


def test_without_an_execution_everything_is_resident(profile: ModelProfile) -> None:
    resolved = EngineOptions(dtype="bf16").resolved(profile)
    assert (resolved.device, resolved.precision, resolved.compute) == ("cpu", "bf16", "bf16")
    assert resolved.resident_blocks == resolved.total_blocks == 6
    assert resolved.text_encoder == "resident" and resolved.encode_tile_px is None


def test_streaming_moves_bytes_from_the_device_to_the_host(load: Load) -> None:
    resident, streamed = load(), load(**STREAMED)
    block = resident.models.transformer.blocks.layout.nbytes
    text = streamed.models.streamed_text
    assert resident.host_bytes() == 0
    assert streamed.host_bytes() == 4 * block + text.host_bytes
    # The host holds the layers as they are stored, in BF16; resident ones are cast.
    assert resident.memory_bytes() - streamed.memory_bytes() == 2 * block + 2 * text.host_bytes


def test_fp8_takes_less_than_a_third_of_fp32_for_the_blocks(load: Load) -> None:
    sizes = {
        precision: load(precision=precision).models.transformer.blocks.device_bytes for precision in ("fp32", "fp8")
    }
    assert sizes["fp8"] < sizes["fp32"] / 3.5


@pytest.mark.parametrize(("cap", "side"), [(128 * 128, 128), (1 << 20, 256)])
def test_references_are_resized_to_the_cap(
    load: Load, scene: Callable[..., Image.Image], spec: Callable[..., EditSpec], cap: int, side: int
) -> None:
    engine = load(max_reference_pixels=cap)
    edit = engine.begin(spec(), {"a": scene(300, 300)}, "session")
    while edit.advance().phase != "encode_image":
        pass
    latents = engine.caches.of("session").get("reference", ("a", View(side, side)), torch.Tensor)
    assert latents is not None and latents.shape == (1, side * side // 256, 64)


def test_tiles_reach_the_vae(load: Load) -> None:
    vae = load(encode_tile_px=256, decode_tile_px=320).models.vae
    assert (vae.encode_tile_px, vae.decode_tile_px) == (256, 320)


@pytest.mark.parametrize("component", ["text_encoder", "transformer"])
def test_a_file_that_is_replaced_under_a_running_engine_fails_the_edit_and_says_so(
    tmp_path: Path,
    profile: ModelProfile,
    execution: Callable[..., Execution],
    scene: Callable[..., Image.Image],
    spec: Callable[..., EditSpec],
    finish: Callable[[Edit], list[Advance]],
    component: str,
) -> None:
    shutil.copytree(builtin_model_folder(), tmp_path / "model")
    options = EngineOptions(execution=execution(**STREAMED))
    engine = Engine.load(tmp_path / "model", profile, options, lambda *_: None)
    file = max((tmp_path / "model" / component).glob("*.safetensors"))
    os.utime(file, ns=(1, 1))
    with pytest.raises(ModelUnsupported, match=f"{file.name} changed since it was loaded"):
        finish(engine.begin(spec(width=64, height=64), {"a": scene(64, 64)}, None))


def test_the_plans_attention_reaches_the_blocks(load: Load) -> None:
    operations = load(attention=("flash", "math")).models.transformer.operations
    assert operations._attention._backends == [BACKENDS["flash"], BACKENDS["math"]]


class Held(DenseSource):
    """Weights in memory, as a benchmark would make them."""

    def __init__(self, source: TensorSource) -> None:
        self.component, self.nbytes = source.component, source.nbytes
        self._tensors = {name: source.read(name).clone() for name in source.names()}

    def names(self) -> Collection[str]:
        return self._tensors.keys()

    def origin(self, name: str) -> str:
        return name

    def read(self, name: str) -> Tensor:
        return self._tensors[name]


def test_an_engine_can_be_built_from_any_source(load: Load, run: RunEdit, profile: ModelProfile) -> None:
    files = open_pipeline(builtin_model_folder(), profile)
    sources = replace(
        files, transformer=Held(files.transformer), text_encoder=Held(files.text_encoder), vae=Held(files.vae)
    )
    seen: list[tuple[str, int, int]] = []
    engine = Engine.build(sources, profile, EngineOptions(dtype="fp32"), lambda *state: seen.append(state))
    assert seen[-1][1] == seen[-1][2] == sum(part.nbytes for part in (files.transformer, files.text_encoder, files.vae))
    assert run(engine) == run(load())


def test_loading_leaves_normal_tensors_that_can_be_used_anywhere(load: Load) -> None:
    transformer = load(**STREAMED).models.transformer
    assert not any(buffer.is_inference() for buffer in transformer.blocks.buffers())
    assert not any(weight.is_inference() for weight in transformer._embedders.parameters())
    assert not torch.is_inference_mode_enabled()
