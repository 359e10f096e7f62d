"""Every layout and precision of files loads, to the last bit of the cast that it is loaded with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from qied_client.errors import ModelUnsupported
from safetensors.torch import load_file
from torch import Tensor

from qied.checkpoints.checkpoint import Checkpoint
from qied.checkpoints.pipeline_folder import pipeline_checkpoint
from qied.edit import EditSpec
from qied.engine.block.packed import block_tensors
from qied.engine.edits.context import Advance
from qied.engine.edits.edit import Edit
from qied.engine.engine import Engine, EngineOptions
from qied.engine.weights.quantise import E4M3_MAX
from qied.planning.layout.block_layout import NORMS, linears
from qied.planning.plan import Execution
from qied.planning.profiles.model_profile import ModelProfile
from qied.resources import builtin_model_folder
from tests.checkpoints.files import FLAVOURS, MODULATION, write_text_encoder, write_transformer, write_vae

Load = Callable[..., Engine]
Meant = dict[str, Tensor]
SHIPPED = pipeline_checkpoint(builtin_model_folder())


@pytest.fixture
def load(profile: ModelProfile, execution: Callable[..., Execution]) -> Load:
    """Load the built-in model with some of its files exchanged; other keywords are of the execution."""

    def run(files: dict[str, Path] | None = None, **changes: object) -> Engine:
        exchanged: Checkpoint = replace(SHIPPED, **{part: (str(path),) for part, path in (files or {}).items()})
        return Engine.load(exchanged, profile, EngineOptions(execution=execution(**changes)), lambda *_: None)

    return run


@pytest.fixture
def edited(
    load: Load,
    scene: Callable[..., Image.Image],
    spec: Callable[..., EditSpec],
    finish: Callable[[Edit], list[Advance]],
) -> Callable[..., bytes]:
    """The pixels of one short edit by a model that is loaded for it."""

    def run(files: dict[str, Path] | None = None, **changes: object) -> bytes:
        image = finish(load(files, **changes).begin(spec(steps=2), {"a": scene()}, None))[-1].image
        assert image is not None
        return image.tobytes()

    return run


def blocks_of(engine: Engine) -> list[dict[str, Tensor]]:
    blocks = engine.models.transformer.blocks
    return [block_tensors(blocks.layout, buffer) for buffer in blocks.buffers()]


def meant_linear(meant: Meant, block: int, modules: tuple[str, ...]) -> Tensor:
    return torch.cat([meant[f"transformer_blocks.{block}.{module}.weight"] for module in modules])


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_in_16_and_32_bits_each_weight_is_what_the_file_means_rounded_once(
    tmp_path: Path, load: Load, flavour: str
) -> None:
    path = tmp_path / "t.safetensors"
    meant = write_transformer(path, flavour)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        engine = load({"transformer": path}, precision=precision, compute=precision)
        shape = engine.models.transformer.blocks.layout.shape
        for number, tensors in enumerate(blocks_of(engine)):
            for linear in linears(shape):
                expected = meant_linear(meant, number, linear.modules).to(dtype)
                assert torch.equal(tensors[f"{linear.name}.weight"], expected)
            for norm in NORMS:
                assert torch.equal(tensors[norm.name], meant[f"transformer_blocks.{number}.{norm.parameter}"].to(dtype))
        outside = engine.models.transformer._embedders.state_dict()
        assert all(torch.equal(tensor, meant[name].to(dtype)) for name, tensor in outside.items())


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_by_row_what_is_stored_in_fp8_stays_as_it_is_and_the_rest_is_cast(
    tmp_path: Path, load: Load, flavour: str
) -> None:
    path = tmp_path / "t.safetensors"
    meant = write_transformer(path, flavour)
    in_16_bits = {name.removesuffix(".weight") for name, tensor in load_file(path).items() if tensor.itemsize == 2}
    engine = load({"transformer": path}, precision="fp8", scaling="rowwise", compute="bf16")
    shape = engine.models.transformer.blocks.layout.shape
    for number, tensors in enumerate(blocks_of(engine)):
        for linear in linears(shape):
            values, scale = tensors[f"{linear.name}.weight"], tensors[f"{linear.name}.scale"]
            found = values.double() * scale.double().unsqueeze(1)
            expected = meant_linear(meant, number, linear.modules)
            if flavour in ("bf16", "fp16", "fp32"):
                largest = expected.abs().amax(1).clamp(min=1e-12)
                assert torch.equal(scale, (largest.float() / E4M3_MAX))
                assert torch.equal(values.float(), (expected.float() / scale.unsqueeze(1)).to(values.dtype).float())
                continue
            parts = zip(linear.modules, found.chunk(len(linear.modules)), scale.chunk(len(linear.modules)), strict=True)
            for module, part, scales in parts:
                wanted = meant[f"transformer_blocks.{number}.{module}.weight"]
                if flavour == "fp8_mixed" and f"transformer_blocks.{number}.{module}" in in_16_bits:
                    rounded = (wanted.float() / scales.unsqueeze(1)).to(values.dtype)
                    assert torch.equal(part, rounded.double() * scales.double().unsqueeze(1))
                else:
                    assert torch.equal(part, wanted)


@pytest.mark.parametrize("flavour", ["fp8_plain", "fp8_scaled", "fp8_mixed", "fp8_lightx2v"])
def test_per_tensor_weights_are_cast_anew_with_one_scale(tmp_path: Path, load: Load, flavour: str) -> None:
    path = tmp_path / "t.safetensors"
    meant = write_transformer(path, flavour)
    engine = load({"transformer": path}, precision="fp8", scaling="tensorwise", compute="bf16")
    shape = engine.models.transformer.blocks.layout.shape
    for number, tensors in enumerate(blocks_of(engine)):
        for linear in linears(shape):
            values, scale = tensors[f"{linear.name}.weight"], tensors[f"{linear.name}.scale"]
            expected = meant_linear(meant, number, linear.modules).float()
            assert torch.equal(scale, (expected.abs().amax() / E4M3_MAX).reshape(1))
            assert torch.equal(values.float(), (expected / scale).to(values.dtype).float())


@pytest.mark.parametrize("flavour", ["fp8_plain", "fp8_lightx2v"])
def test_modulation_and_ends_that_are_stored_in_fp8_are_expanded(tmp_path: Path, load: Load, flavour: str) -> None:
    path = tmp_path / "t.safetensors"
    meant = write_transformer(path, flavour)
    source = load({"transformer": path}).models.transformer.modulation._source
    for module in MODULATION:
        name = f"transformer_blocks.2.{module}.weight"
        assert torch.equal(source.read(name).double(), meant[name].float().double())


def test_the_same_numbers_give_the_same_picture_in_every_layout(tmp_path: Path, edited: Callable[..., bytes]) -> None:
    expected = edited()
    write_transformer(tmp_path / "plain.safetensors")
    write_transformer(tmp_path / "prefixed.safetensors", prefix="model.diffusion_model.")
    write_text_encoder(tmp_path / "encoder.safetensors")
    write_text_encoder(tmp_path / "headless.safetensors", old_names=False, head=False)
    write_vae(tmp_path / "wan.safetensors")
    write_vae(tmp_path / "diffusers.safetensors", wan=False)
    # BF16 numbers are FP32 numbers, too.
    write_transformer(tmp_path / "wide.safetensors", "fp32", prefix="diffusion_model.")
    for names in (
        ("plain", "encoder", "wan"),
        ("prefixed", "headless", "diffusers"),
        ("wide", "encoder", "wan"),
    ):
        files = dict(zip(("transformer", "text_encoder", "vae"), names, strict=True))
        assert edited({part: tmp_path / f"{name}.safetensors" for part, name in files.items()}) == expected


@pytest.mark.parametrize("flavour", ["bf16", "fp16", "fp8_plain", "fp8_scaled", "fp8_comfy", "fp8_mixed"])
def test_a_text_encoder_of_any_precision_gives_the_same_streamed_as_resident(
    tmp_path: Path, edited: Callable[..., bytes], flavour: str
) -> None:
    path = tmp_path / "encoder.safetensors"
    write_text_encoder(path, flavour)
    streamed = edited({"text_encoder": path}, text_encoder="streamed")
    assert streamed == edited({"text_encoder": path})
    if flavour != "fp16":  # which holds the numbers of the built-in model almost exactly: pixels may be the same
        assert (streamed == edited()) == (flavour == "bf16")


@pytest.mark.parametrize("flavour", ["fp8_plain", "fp8_scaled", "fp8_mixed"])
def test_the_weights_of_a_resident_text_encoder_are_what_the_file_means(
    tmp_path: Path, load: Load, flavour: str
) -> None:
    path = tmp_path / "encoder.safetensors"
    meant = write_text_encoder(path, flavour)
    model = load({"text_encoder": path}, precision="bf16", compute="bf16").models.text_encoder.model
    own = model.state_dict()
    assert own.keys() == meant.keys()
    assert all(torch.equal(tensor, meant[name].to(torch.bfloat16)) for name, tensor in own.items())


@pytest.mark.parametrize("precision", ["bf16", "fp8", "fp8-storage"])
@pytest.mark.parametrize("transformer", ["bf16", "fp8_scaled"])
@pytest.mark.parametrize("encoder", ["bf16", "fp8_scaled"])
def test_any_text_encoder_goes_with_any_precision_of_the_transformer(
    tmp_path: Path, edited: Callable[..., bytes], precision: str, transformer: str, encoder: str
) -> None:
    write_transformer(tmp_path / "t.safetensors", transformer)
    write_text_encoder(tmp_path / "e.safetensors", encoder)
    files = {"transformer": tmp_path / "t.safetensors", "text_encoder": tmp_path / "e.safetensors"}
    assert edited(files, precision=precision, compute="bf16")


def test_a_layer_in_an_unknown_format_is_refused_when_the_file_is_opened(tmp_path: Path, load: Load) -> None:
    def renamed(tensors: dict[str, Tensor]) -> None:
        name = "transformer_blocks.1.attn.to_q.comfy_quant"
        tensors[name] = torch.frombuffer(bytearray(b'{"format": "float9"}'), dtype=torch.uint8)

    write_transformer(tmp_path / "t.safetensors", "fp8_comfy", change=renamed)
    with pytest.raises(ModelUnsupported, match=r"t\.safetensors.*to_q is stored as float9"):
        load({"transformer": tmp_path / "t.safetensors"})


def test_a_file_that_changes_while_it_is_loaded_is_refused(
    tmp_path: Path, profile: ModelProfile, execution: Callable[..., Execution]
) -> None:
    path = tmp_path / "t.safetensors"
    write_transformer(path)
    files = replace(SHIPPED, transformer=(str(path),))
    touched = False

    def touch(component: str, done: int, total: int) -> None:
        nonlocal touched
        if component == "transformer" and not touched:
            touched = True
            path.touch()

    with pytest.raises(ModelUnsupported, match=r"t\.safetensors changed"):
        Engine.load(files, profile, EngineOptions(execution=execution()), touch)
    assert touched
