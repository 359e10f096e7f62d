"""Checkpoints with transformer, text encoder and VAE in one file: what they are, and their parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from qied_client.errors import ModelNotFound, ModelUnsupported

from qied.checkpoints.all_in_one import merged_steps, rapid_version, sections
from qied.checkpoints.inspect import inspect
from qied.checkpoints.part_file import read_part
from qied.checkpoints.versions import named_model
from qied.config import ModelConfig
from qied.engine.weights.sources import FileSource
from qied.serving.model import ServedModel, locate_model
from qied.weights.problems import BadFile
from tests.checkpoints.all_in_one_files import (
    TEXT,
    comfyui_of_one_file,
    encoder_part,
    transformer_part,
    vae_part,
    write_all_in_one,
)
from tests.checkpoints.files import in_flavour, save, stored, write_text_encoder, write_transformer, write_vae

PARTS = ("transformer", "text_encoder", "vae")


@pytest.fixture
def located(tmp_path: Path):
    def locate(path: Path | str, **fields: object) -> ServedModel:
        return locate_model(ModelConfig.model_validate({"path": str(path), **fields}), {}, tmp_path)

    return locate


@pytest.mark.parametrize(
    "text", [TEXT, "cond_stage_model.qwen25_7b.transformer.", "text_encoders.qwen25_7b.", "cond_stage_model."]
)
@pytest.mark.parametrize("vae", ["vae.", "first_stage_model."])
def test_each_part_has_the_tensors_of_the_models_own_file(tmp_path: Path, text: str, vae: str) -> None:
    path = write_all_in_one(tmp_path / "a.safetensors", text=text, vae=vae)
    for part in PARTS:
        source = FileSource(part, [path])  # type: ignore[arg-type]
        expected = {
            name.removeprefix("model."): tensor
            for name, tensor in stored(part).items()
            if not name.startswith("lm_head")
        }
        assert set(source.names()) == set(expected)
        assert all(torch.equal(source.read(name), tensor) for name, tensor in expected.items())
        assert source.nbytes == pytest.approx(sum(tensor.nbytes for tensor in stored(part).values()), rel=0.01)


@pytest.mark.parametrize("flavour", ["bf16", "fp8_plain", "fp8_comfy"])
def test_it_is_recognised_with_its_model_and_precision(tmp_path: Path, flavour: str) -> None:
    path = write_all_in_one(tmp_path / "a.safetensors", flavour)
    found = inspect(path)
    assert (found.role, found.layout, found.precision) == ("checkpoint", "comfyui", flavour)
    assert (found.model, found.problems, found.bytes) == ("builtin", (), path.stat().st_size)


def test_files_of_one_part_are_none(tmp_path: Path) -> None:
    write_transformer(tmp_path / "t.safetensors", prefix="model.diffusion_model.")
    write_text_encoder(tmp_path / "e.safetensors")
    write_vae(tmp_path / "v.safetensors")
    for name in ("t", "e", "v"):
        assert sections(read_part(tmp_path / f"{name}.safetensors").header.tensors) == {}
        assert inspect(tmp_path / f"{name}.safetensors").role != "checkpoint"


def test_what_is_wrong_with_any_part_is_told_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_all_in_one(path, change=lambda tensors: tensors.pop(f"{TEXT}model.norm.weight"))
    assert inspect(path).problems == ("text_encoder: 1 tensor is missing: 'language_model.norm.weight'.",)
    write_all_in_one(path, change=lambda tensors: tensors.update({"vae.conv1.bias": torch.zeros(3)}))
    assert inspect(path).problems == ("vae: 'vae.conv1.bias' is [3], but should be [32].",)


def test_a_damaged_part_is_not_served_until_another_is_named(tmp_path: Path, located) -> None:
    path = comfyui_of_one_file(tmp_path / "ui", change=lambda tensors: tensors.pop("vae.conv1.bias"))
    with pytest.raises(ModelUnsupported, match=r"cannot be used as the VAE of .*: 1 tensor is missing") as caught:
        located(path)
    assert "model.vae" in caught.value.remedy
    write_vae(tmp_path / "v.safetensors")
    assert located(path, vae=str(tmp_path / "v.safetensors")).checkpoint().text_encoder == (str(path),)


def test_an_unmarked_one_may_be_2509(tmp_path: Path, located) -> None:
    path = comfyui_of_one_file(tmp_path / "ui", marked=False)
    assert "2509 or 2511" in inspect(path).problems[0]
    with pytest.raises(ModelUnsupported, match="2509 or 2511"):
        located(path)
    assert located(path, version="2511").checkpoint().transformer == (str(path),)


def test_it_is_served_with_its_own_parts(tmp_path: Path, located) -> None:
    path = comfyui_of_one_file(tmp_path / "ui")
    files = located(path).checkpoint()
    assert files.transformer == files.text_encoder == files.vae == (str(path),)
    assert files.weight_files == (path,)


def test_parts_that_are_named_take_the_place_of_its_own(tmp_path: Path, located) -> None:
    path = comfyui_of_one_file(tmp_path / "ui")
    write_text_encoder(tmp_path / "e.safetensors", "fp8_scaled")
    files = located(path, text_encoder=str(tmp_path / "e.safetensors")).checkpoint()
    assert files.text_encoder == (str(tmp_path / "e.safetensors"),) and files.vae == (str(path),)
    other = write_all_in_one(tmp_path / "other.safetensors")
    assert located(path, vae=str(other)).checkpoint().vae == (str(other),)


def test_a_part_that_it_lacks_is_looked_for(tmp_path: Path, located) -> None:
    path = comfyui_of_one_file(tmp_path / "ui", text=None)
    with pytest.raises(ModelNotFound, match="no text encoder"):
        located(path)
    encoder = tmp_path / "ui" / "models" / "text_encoders" / "encoder.safetensors"
    write_text_encoder(encoder)
    files = located(path).checkpoint()
    assert files.text_encoder == (str(encoder),) and files.vae == (str(path),)
    with pytest.raises(BadFile, match="holds several parts of a model, but no text encoder"):
        read_part(path, "text_encoder")


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("Qwen-Rapid-AIO-NSFW-v18.safetensors", 4),
        ("rapid_aio.safetensors", 4),
        ("aio_lightning_8steps.safetensors", 8),
        ("rapids.safetensors", None),
        ("qwen_aio.safetensors", None),
    ],
)
def test_steps_of_what_was_merged_are_told_by_the_name(name: str, steps: int | None) -> None:
    assert merged_steps(name, {}) == steps


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("Qwen-Rapid-AIO-NSFW-v18.safetensors", "2509"),
        ("Qwen-Rapid-AIO-v5.1.safetensors", "2509"),
        ("Qwen-Rapid-AIO-NSFW-v19.safetensors", "2511"),
        ("rapid_aio_sfw_v23_Q4_K.gguf", "2511"),
        ("Qwen-Rapid-AIO-v4.safetensors", None),
        ("Qwen-Rapid-AIO.safetensors", None),
    ],
)
def test_the_version_of_a_rapid_one_tells_what_it_was_made_of(name: str, version: str | None) -> None:
    assert rapid_version(name) == version
    assert named_model(name, {}) == version


def test_one_that_is_named_for_2509_is_served_only_if_a_person_names_it(tmp_path: Path, located) -> None:
    path = comfyui_of_one_file(tmp_path / "ui", "Qwen-Rapid-AIO-NSFW-v18.safetensors", marked=False)
    with pytest.raises(ModelNotFound, match="By its name it is 2509"):
        located(tmp_path / "ui", version="2511")
    model = located(path, version="2511")
    assert model.checkpoint().vae == (str(path),) and any("2509" in warning for warning in model.warnings)


def test_the_steps_of_a_rapid_one_are_the_models(tmp_path: Path, located) -> None:
    path = comfyui_of_one_file(tmp_path / "ui")
    assert inspect(path).lightning_steps == 4
    assert (located(path).lightning_steps, located(path).keeps_schedule) == (4, True)
    lightning = comfyui_of_one_file(tmp_path / "other", "aio_lightning_8steps.safetensors")
    assert (located(lightning).lightning_steps, located(lightning).keeps_schedule) == (8, False)


def renamed(path: Path, prefixes: dict[str, str]) -> Path:
    tensors = {prefixes["transformer"] + name: each for name, each in transformer_part().items()}
    tensors |= {prefixes["text_encoder"] + name: each for name, each in encoder_part().items()}
    tensors |= {prefixes["vae"] + name: each for name, each in vae_part().items()}
    save(path, tensors, {})
    return path


@pytest.mark.parametrize(
    ("transformer", "text", "vae"),
    [
        ("diffusion_model.", "text_encoders.qwen25_7b.transformer.", "vae."),
        ("transformer.", "text_encoder.", "vae."),
        ("model.diffusion_model.", "conditioner.embedders.0.transformer.", "first_stage_model."),
        ("model.diffusion_model.", "clip.qwen25_7b.transformer.", "first_stage_model."),
    ],
)
def test_other_programs_put_other_words_before_the_parts(tmp_path: Path, transformer: str, text: str, vae: str) -> None:
    prefixes = {"transformer": transformer, "text_encoder": text, "vae": vae}
    found = inspect(renamed(tmp_path / "all.safetensors", prefixes))
    assert (found.role, found.model, found.problems) == ("checkpoint", "builtin", ())


@pytest.mark.parametrize("prefix", ["vae.", "first_stage_model."])
def test_a_vae_that_was_cut_out_of_a_checkpoint_keeps_its_prefix(tmp_path: Path, prefix: str) -> None:
    save(tmp_path / "v.safetensors", {prefix + name: each for name, each in vae_part().items()}, {})
    found = inspect(tmp_path / "v.safetensors")
    assert (found.role, found.model, found.problems) == ("vae", "builtin", ())


@pytest.mark.parametrize("prefix", ["text_encoders.qwen25_7b.transformer.", "text_encoder.", "cond_stage_model."])
def test_a_text_encoder_that_was_cut_out_of_a_checkpoint_keeps_its_prefix(tmp_path: Path, prefix: str) -> None:
    save(tmp_path / "e.safetensors", {prefix + name: each for name, each in encoder_part().items()}, {})
    found = inspect(tmp_path / "e.safetensors")
    assert (found.role, found.model, found.problems) == ("text_encoder", "builtin", ())


@pytest.mark.parametrize("before", ["", "model.diffusion_model."])
def test_what_a_header_says_of_layers_counts_with_the_prefix_and_without(tmp_path: Path, before: str) -> None:
    kept, texts, _ = in_flavour(stored("transformer"), "int8_convrot_header")
    layers = json.loads(texts["_quantization_metadata"])["layers"]
    said = {"_quantization_metadata": json.dumps({"layers": {before + name: one for name, one in layers.items()}})}
    save(tmp_path / "t.safetensors", {f"model.diffusion_model.{name}": each for name, each in kept.items()}, said)
    found = read_part(tmp_path / "t.safetensors").tensors["transformer_blocks.0.attn.to_q.weight"]
    assert (found.precision, found.group) == ("int8", 256)
