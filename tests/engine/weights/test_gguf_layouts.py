"""GGUF files load to the last bit of what the `gguf` package takes them for, whatever the plan makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from qied.checkpoints.file_bytes import stored_block_bytes
from qied.checkpoints.inspect import inspect
from qied.checkpoints.pipeline_folder import pipeline_checkpoint
from qied.edit import EditSpec
from qied.engine.block.packed import block_tensors
from qied.engine.edits.context import Advance
from qied.engine.edits.edit import Edit
from qied.engine.engine import Engine, EngineOptions
from qied.engine.weights.quantise import quantise
from qied.engine.weights.sources import FileSource
from qied.planning.layout.block_layout import NORMS, linears
from qied.planning.plan import Execution
from qied.planning.profiles.model_profile import ModelProfile
from qied.resources import builtin_model_folder
from tests.checkpoints.gguf_model import write_encoder_gguf, write_tower, write_transformer_gguf, write_vae_gguf
from tests.weights.gguf_files import KINDS

Load = Callable[..., Engine]
ALL = ("F32", "F16", "BF16", *KINDS)
OF_32 = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL")
"""Types whose blocks the text encoder's rows can be cut into."""
SHIPPED = pipeline_checkpoint(builtin_model_folder())


@pytest.fixture
def load(profile: ModelProfile, execution: Callable[..., Execution]) -> Load:
    """Load the built-in model with some of its files exchanged; other keywords are of the execution."""

    def run(files: Mapping[str, Sequence[Path]], **changes: object) -> Engine:
        exchanged = replace(SHIPPED, **{part: tuple(map(str, paths)) for part, paths in files.items()})
        return Engine.load(exchanged, profile, EngineOptions(execution=execution(**changes)), lambda *_: None)

    return run


def blocks_of(engine: Engine) -> list[dict[str, Tensor]]:
    blocks = engine.models.transformer.blocks
    return [block_tensors(blocks.layout, buffer) for buffer in blocks.buffers()]


@pytest.mark.parametrize("kind", ALL)
def test_in_16_and_32_bits_each_weight_is_what_the_file_means_rounded_once(
    tmp_path: Path, load: Load, kind: str
) -> None:
    path = tmp_path / "t.gguf"
    meant = write_transformer_gguf(path, kind)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        engine = load({"transformer": [path]}, precision=precision, compute=precision)
        shape = engine.models.transformer.blocks.layout.shape
        for number, tensors in enumerate(blocks_of(engine)):
            for linear in linears(shape):
                expected = [meant[f"transformer_blocks.{number}.{module}.weight"] for module in linear.modules]
                assert torch.equal(tensors[f"{linear.name}.weight"], torch.cat(expected).to(dtype))
            for norm in NORMS:
                assert torch.equal(tensors[norm.name], meant[f"transformer_blocks.{number}.{norm.parameter}"].to(dtype))
        outside = engine.models.transformer._embedders.state_dict()
        assert all(torch.equal(tensor, meant[name].to(dtype)) for name, tensor in outside.items())


@pytest.mark.parametrize("folded", [True, False])
def test_a_vae_has_its_convolutions_in_more_dimensions_than_ggml(tmp_path: Path, folded: bool) -> None:
    meant = write_vae_gguf(tmp_path / "vae.gguf", folded=folded)
    assert (inspect(tmp_path / "vae.gguf").model, inspect(tmp_path / "vae.gguf").problems) == ("builtin", ())
    source = FileSource("vae", [tmp_path / "vae.gguf"])
    assert set(source.names()) == set(meant)
    assert all(torch.equal(source.read(name), tensor) for name, tensor in meant.items())


@pytest.mark.parametrize(
    ("kind", "scaling"), [*((kind, "rowwise") for kind in KINDS), ("Q8_0", "tensorwise"), ("Q4_K", "tensorwise")]
)
def test_in_fp8_what_the_file_means_is_quantised_once(tmp_path: Path, load: Load, kind: str, scaling: str) -> None:
    path = tmp_path / "t.gguf"
    meant = write_transformer_gguf(path, kind)
    engine = load({"transformer": [path]}, precision="fp8", scaling=scaling, compute="bf16")
    for number, tensors in enumerate(blocks_of(engine)):
        for linear in linears(engine.models.transformer.blocks.layout.shape):
            whole = torch.cat([meant[f"transformer_blocks.{number}.{module}.weight"] for module in linear.modules])
            expected = quantise(whole, scaling)  # type: ignore[arg-type]
            found = tensors[f"{linear.name}.weight"]
            assert torch.equal(found.view(torch.uint8), expected.values.view(torch.uint8))
            assert torch.equal(tensors[f"{linear.name}.scale"], expected.scale.flatten())


@pytest.mark.parametrize(
    ("kind", "tower"), [*((kind, "BF16") for kind in OF_32), ("Q8_0", "F16"), ("Q4_1", "F32"), ("F16", "Q8_0")]
)
def test_a_text_encoder_in_two_files_is_one(tmp_path: Path, load: Load, kind: str, tower: str) -> None:
    path, meant = write_encoder_gguf(tmp_path, kind, tower=tower)
    files = [path, tmp_path / f"mmproj-{tower}.gguf"]
    found = load({"text_encoder": files}, compute="fp32", precision="fp32").models.text_encoder.model.state_dict()
    assert found.keys() == meant.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, meant[name]), name


@pytest.fixture
def edited(
    load: Load,
    scene: Callable[..., Image.Image],
    spec: Callable[..., EditSpec],
    finish: Callable[[Edit], list[Advance]],
) -> Callable[..., bytes]:
    """The pixels of one short edit by a model that is loaded for it."""

    def run(files: Mapping[str, Sequence[Path]], **changes: object) -> bytes:
        image = finish(load(files, **changes).begin(spec(steps=2), {"a": scene()}, None))[-1].image
        assert image is not None
        return image.tobytes()

    return run


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1", "IQ4_NL", "BF16"])
@pytest.mark.parametrize("compute", ["fp32", "bf16"])
def test_a_streamed_text_encoder_gives_the_pixels_of_a_resident_one(
    tmp_path: Path, edited: Callable[..., bytes], kind: str, compute: str
) -> None:
    path, _ = write_encoder_gguf(tmp_path, kind, tower="F16")
    files = {"text_encoder": [path, tmp_path / "mmproj-F16.gguf"]}
    held = {"precision": compute, "compute": compute}
    assert edited(files, **held, text_encoder="streamed") == edited(files, **held, text_encoder="resident")


def test_a_streamed_text_encoder_stays_in_its_file(tmp_path: Path, load: Load) -> None:
    path, _ = write_encoder_gguf(tmp_path, "Q4_0")
    files = [path, tmp_path / "mmproj-BF16.gguf"]
    held = load({"text_encoder": files}, compute="bf16", precision="bf16", text_encoder="streamed").models.streamed_text
    dense = load({}, compute="bf16", precision="bf16", text_encoder="streamed").models.streamed_text
    assert held is not None and dense is not None
    assert held.host_bytes < 0.55 * dense.host_bytes


AS_STORED = {"resident_blocks": 2, "ring_slots": 2, "stored_block_bytes": 1}


@pytest.mark.parametrize(
    "held",
    [
        {"precision": "bf16", "compute": "bf16"},
        {"precision": "fp32", "compute": "fp32"},
        {"precision": "fp8", "scaling": "rowwise", "compute": "bf16"},
        {"precision": "fp8-storage", "scaling": None, "compute": "fp32"},
    ],
    ids=lambda held: f"{held['precision']}-{held['compute']}",
)
def test_blocks_that_stream_as_they_are_stored_give_the_pixels_of_resident_ones(
    tmp_path: Path, edited: Callable[..., bytes], held: dict[str, object]
) -> None:
    path = tmp_path / "t.gguf"
    write_transformer_gguf(path, "Q5_1")
    resident = edited({"transformer": [path]}, **held)
    assert edited({"transformer": [path]}, **held, **AS_STORED) == resident
    assert edited({"transformer": [path]}, **held, resident_blocks=2, ring_slots=2) == resident


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_that_is_expanded_for_a_forward_is_what_would_have_been_packed(
    tmp_path: Path, load: Load, kind: str
) -> None:
    path = tmp_path / "t.gguf"
    write_transformer_gguf(path, kind)
    held = {"precision": "fp8", "scaling": "rowwise", "compute": "bf16"}
    packed = blocks_of(load({"transformer": [path]}, **held))
    blocks = load({"transformer": [path]}, **held, **AS_STORED).models.transformer.blocks
    for _ in range(2):
        with blocks.sweep() as weights:
            for number, block in enumerate(weights):
                assert int(block.number) == number
                for stream, name in ((block.image, "image"), (block.text, "text")):
                    for linear, part in ((stream.qkv, "qkv"), (stream.down, "down")):
                        expected = packed[number][f"{name}.{part}.weight"]
                        assert torch.equal(linear.weight.view(torch.uint8), expected.view(torch.uint8))
                        assert linear.scale is not None
                        assert torch.equal(linear.scale, packed[number][f"{name}.{part}.scale"])
                        assert torch.equal(linear.bias, packed[number][f"{name}.{part}.bias"])
                    assert torch.equal(stream.q_norm, packed[number][f"{name}.q_norm"])


def test_blocks_that_stream_as_they_are_stored_take_the_host_no_more_than_planned(
    tmp_path: Path, load: Load, profile: ModelProfile
) -> None:
    path = tmp_path / "t.gguf"
    write_transformer_gguf(path, "Q4_K")
    held = {"precision": "bf16", "compute": "bf16"}
    planned = stored_block_bytes([path], profile.architecture)
    blocks = load({"transformer": [path]}, **held, **AS_STORED).models.transformer.blocks
    assert blocks.host_bytes == 4 * planned
    assert blocks.host_bytes < 0.4 * load({"transformer": [path]}, **held, resident_blocks=2, ring_slots=2).host_bytes()
    assert blocks.device_bytes == 3 * blocks.layout.nbytes + 2 * planned


def test_a_tower_of_mixed_types_is_joined_without_loss(tmp_path: Path) -> None:
    meant = write_tower(tmp_path / "mmproj.gguf", "Q8_0")
    source = FileSource("text_encoder", [tmp_path / "mmproj.gguf"])
    assert set(source.names()) == set(meant)
    for name in source.names():
        assert torch.equal(source.read(name).float(), meant[name])
        assert source.stored(name).shape == meant[name].shape


def test_quantised_blocks_are_kept_for_the_next_start_of_the_same_file_alone(
    tmp_path: Path, profile: ModelProfile, execution: Callable[..., Execution]
) -> None:
    from qied.engine.disk.cache import identity_of

    path = tmp_path / "t.gguf"
    write_transformer_gguf(path, "Q8_0")
    first = identity_of(FileSource("transformer", [path]))
    assert first == identity_of(FileSource("transformer", [path]))
    write_transformer_gguf(tmp_path / "u.gguf", "Q4_0")
    assert first[0]["header"] != identity_of(FileSource("transformer", [tmp_path / "u.gguf"]))[0]["header"]
