"""A whole model around a transformer's file: where its parts come from, and what is said where one is not there."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from qied_client.errors import ConfigError, ModelNotFound, ModelUnsupported, QiedError

from qied.checkpoints.checkpoint import Checkpoint
from qied.config import ModelConfig
from qied.resources import builtin_model_folder, model_configuration
from qied.serving.model import ServedModel, locate_model
from tests.checkpoints.files import comfyui, write_text_encoder, write_transformer, write_vae
from tests.checkpoints.sparse_files import REAL, stored_as
from tools.sparse_checkpoint import sparse_file


@pytest.fixture
def located(tmp_path: Path):
    """Locate a model as the configuration names it, on a machine whose home is ``tmp_path``."""

    def locate(path: Path | str, **fields: object) -> ServedModel:
        return locate_model(ModelConfig.model_validate({"path": str(path), **fields}), {}, tmp_path)

    return locate


def test_parts_of_the_installation_around_a_file_go_with_it(tmp_path: Path, located) -> None:
    path = comfyui(tmp_path / "anywhere")
    model = located(path)
    files = model.checkpoint()
    assert (model.origin, model.profile_name) == (path, "builtin")
    assert files.transformer == (str(path),)
    assert files.text_encoder == (str(tmp_path / "anywhere/models/text_encoders/small_encoder_bf16.safetensors"),)
    assert files.vae == (str(tmp_path / "anywhere/models/vae/small_vae.safetensors"),)
    assert files.tokenizer == str(builtin_model_folder() / "tokenizer")
    assert Path(files.scheduler_config).is_file() and Path(files.processor_config).is_file()


def test_the_loras_of_that_installation_are_the_models(tmp_path: Path, located, write_lora) -> None:
    path = comfyui(tmp_path / "anywhere")
    write_lora(tmp_path / "anywhere/models/loras/style.safetensors")
    assert "style" in located(path).loras.files


def test_of_two_text_encoders_the_one_of_the_transformers_kind_is_taken(tmp_path: Path, located) -> None:
    for flavour in ("bf16", "fp8_scaled"):
        path = comfyui(tmp_path / flavour, flavour)
        folder = path.parents[1] / "text_encoders"
        for kind in ("bf16", "fp8_scaled"):
            write_text_encoder(folder / f"small_encoder_{kind}.safetensors", kind)
        assert located(path).checkpoint().text_encoder[0].endswith(f"small_encoder_{flavour}.safetensors")


def test_a_vae_that_is_named_for_wan_is_no_companion(tmp_path: Path, located) -> None:
    path = comfyui(tmp_path)
    folder = path.parents[1] / "vae"
    for name in ("Wan2_1_VAE_bf16", "01-wan_2.1_vae", "swan", "qwen_wan_vae"):
        shutil.copy(folder / "small_vae.safetensors", folder / f"{name}.safetensors")
    for own in ("qwen_wan_vae", "small_vae", "swan"):
        assert located(path).checkpoint().vae == (str(folder / f"{own}.safetensors"),)
        (folder / f"{own}.safetensors").unlink()
    with pytest.raises(ModelNotFound) as caught:
        located(path)
    assert "01-wan_2.1_vae.safetensors is one of Wan by its name" in caught.value.message
    assert "model.vae" in caught.value.remedy
    named = str(folder / "Wan2_1_VAE_bf16.safetensors")
    assert located(path, vae=named).checkpoint().vae == (named,)


def test_a_text_encoder_that_somebody_changed_goes_behind_the_original(tmp_path: Path, located) -> None:
    path = comfyui(tmp_path, encoder="fp8_scaled")
    folder = path.parents[1] / "text_encoders"
    write_text_encoder(folder / "A-7B-Abliterated.safetensors", "bf16")
    assert located(path).checkpoint().text_encoder == (str(folder / "small_encoder_fp8_scaled.safetensors"),)
    (folder / "small_encoder_fp8_scaled.safetensors").unlink()
    assert located(path).checkpoint().text_encoder == (str(folder / "A-7B-Abliterated.safetensors"),)


def test_parts_may_be_named_as_file_as_folder_or_as_a_whole_model(tmp_path: Path, located) -> None:
    path = tmp_path / "alone.safetensors"
    write_transformer(path)
    write_text_encoder(tmp_path / "encoder.safetensors", "fp8_scaled")
    named = {"text_encoder": str(tmp_path / "encoder.safetensors"), "vae": str(builtin_model_folder() / "vae")}
    files = located(path, **named, tokenizer=str(builtin_model_folder())).checkpoint()
    assert files.text_encoder == (named["text_encoder"],)
    assert files.vae == (str(builtin_model_folder() / "vae" / "diffusion_pytorch_model.safetensors"),)
    assert files.tokenizer == str(builtin_model_folder() / "tokenizer")


def test_a_folders_own_parts_can_be_exchanged(tmp_path: Path, located) -> None:
    write_text_encoder(tmp_path / "encoder.safetensors", "fp8_scaled")
    for path in ("builtin", str(builtin_model_folder())):
        files = located(path, text_encoder=str(tmp_path / "encoder.safetensors")).checkpoint()
        assert files.text_encoder == (str(tmp_path / "encoder.safetensors"),)
        assert files.vae[0].startswith(str(builtin_model_folder()))


def test_comfyuis_folder_can_be_named_where_it_has_one_transformer(tmp_path: Path, located) -> None:
    path = comfyui(tmp_path / "ui")
    for folder in (tmp_path / "ui", tmp_path / "ui" / "models"):
        assert located(folder).origin == path
    second = comfyui(tmp_path / "ui", "fp8_scaled")
    with pytest.raises(ModelNotFound, match="has 2 transformers") as caught:
        located(tmp_path / "ui")
    assert second.name in caught.value.message and "--model" in caught.value.remedy
    for file in (path, second):
        file.unlink()
    with pytest.raises(ModelNotFound, match="no transformer"):
        located(tmp_path / "ui")


def test_what_may_be_2509_is_served_only_where_the_configuration_says_what_it_is(tmp_path: Path, located) -> None:
    path = comfyui(tmp_path / "ui", marked=False)
    with pytest.raises(ModelUnsupported, match="2509 or 2511") as caught:
        located(path)
    assert "model.version" in caught.value.remedy
    assert located(path, version="2511").checkpoint().transformer == (str(path),)


def test_the_real_model_is_assembled_of_comfyuis_files(tmp_path: Path, located) -> None:
    models = tmp_path / "ComfyUI" / "models"
    path = sparse_file(models / "diffusion_models" / "qwen_edit.safetensors", *stored_as("transformer", "fp8_plain"))
    sparse_file(models / "text_encoders" / "vl.safetensors", *stored_as("text_encoder", "fp8_scaled"))
    sparse_file(models / "vae" / "vae.safetensors", *stored_as("vae", "bf16"))
    with pytest.raises(ModelNotFound, match="No vocabulary") as caught:
        located(path)
    assert "qied pull" in caught.value.remedy
    vocabulary = tmp_path / "ComfyUI" / "comfy" / "text_encoders" / "qwen25_tokenizer"
    vocabulary.mkdir(parents=True)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (vocabulary / name).write_text("{}")
    files = located(path).checkpoint()
    assert files.tokenizer == str(vocabulary)
    settings = model_configuration(REAL)
    assert settings is not None and files.vae_config == str(settings / "vae" / "config.json")


@pytest.mark.parametrize(("gone", "said"), [("text_encoders", "no text encoder"), ("vae", "no VAE")])
def test_a_part_that_is_nowhere_is_named_with_what_to_do(tmp_path: Path, located, gone: str, said: str) -> None:
    path = comfyui(tmp_path / "ui")
    shutil.rmtree(path.parents[1] / gone)
    with pytest.raises(ModelNotFound, match=said) as caught:
        located(path)
    assert "model." in caught.value.remedy and "qied pull" in caught.value.remedy


def break_in(change):
    return lambda path: write_transformer(path, change=change)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_bytes(b"GGUF" + bytes(99)), "a GGUF file"),
        (lambda path: path.write_bytes(b"PK\3\4" + bytes(99)), "a pickle"),
        (write_vae, "it is a VAE, not a transformer"),
        (break_in(lambda tensors: tensors.pop("img_in.bias")), "1 tensor is missing: 'img_in.bias'"),
        (break_in(lambda tensors: tensors.update({"img_in.bias": torch.zeros(3)})), r"'img_in.bias' is \[3\]"),
        (break_in(lambda tensors: tensors.update({"txt_in.text_norm.weight": torch.zeros(3)})), "Qwen-Image-2.1"),
    ],
)
def test_a_file_that_is_no_whole_transformer_is_refused_by_name(tmp_path: Path, located, make, said: str) -> None:
    path = tmp_path / "a.safetensors"
    make(path)
    with pytest.raises(ModelUnsupported, match=said) as caught:
        located(path)
    assert "a.safetensors" in caught.value.message and caught.value.remedy


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("text_encoder", "missing.safetensors", "model.text_encoder: .*missing.safetensors does not exist"),
        ("vae", "encoder.safetensors", "model.vae: .* it is a text encoder, not a VAE"),
        ("text_encoder", "other.safetensors", "is not the text encoder of .*tensors do not belong to the model"),
        ("tokenizer", "nowhere", "model.tokenizer: .* has no vocabulary"),
    ],
)
def test_named_parts_that_are_none_are_errors_of_the_configuration(
    tmp_path: Path, located, field: str, value: str, said: str
) -> None:
    path = comfyui(tmp_path / "ui")
    write_text_encoder(tmp_path / "encoder.safetensors")
    entries, texts = stored_as("text_encoder", "bf16")
    sparse_file(tmp_path / "other.safetensors", entries, texts)
    with pytest.raises(ConfigError, match=said):
        located(path, **{field: str(tmp_path / value)})


def test_a_checkpoint_travels_as_json(located) -> None:
    files = located("builtin").checkpoint()
    assert Checkpoint.from_json(json.loads(json.dumps(asdict(files)))) == files


def test_steps_of_a_merged_lightning_lora_are_known(tmp_path: Path, located) -> None:
    path = comfyui(tmp_path / "ui")
    named = path.with_name("small_edit_lightning_4steps.safetensors")
    path.rename(named)
    assert located(named).lightning_steps == 4
    assert located("builtin").lightning_steps is None


def test_a_whole_model_that_has_lost_a_file_says_so_when_it_is_to_be_loaded(tmp_path: Path, located) -> None:
    copy = shutil.copytree(builtin_model_folder(), tmp_path / "model")
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(QiedError, match="vae"):
        located(copy).checkpoint()


def test_a_part_of_a_cut_transformer_is_no_model(located) -> None:
    shard = builtin_model_folder() / "transformer" / "diffusion_pytorch_model-00001-of-00002.safetensors"
    with pytest.raises(ModelUnsupported, match="is split over"):
        located(shard)


def test_what_the_configuration_says_counts_for_models_that_are_searched_for(tmp_path: Path, located) -> None:
    path = comfyui(tmp_path / "ComfyUI", marked=False)
    encoder = next((path.parents[1] / "text_encoders").iterdir())
    encoder.rename(tmp_path / "encoder.safetensors")
    for where in ("", tmp_path / "ComfyUI"):
        with pytest.raises(ModelNotFound):
            located(where)
        named = {"text_encoder": str(tmp_path / "encoder.safetensors")}
        assert located(where, version="2511", **named).checkpoint().text_encoder == (named["text_encoder"],)


def test_a_folder_may_lack_the_parts_that_others_stand_in_for(tmp_path: Path, located) -> None:
    copy = shutil.copytree(builtin_model_folder(), tmp_path / "model")
    shutil.rmtree(copy / "text_encoder")
    (copy / "text_encoder").mkdir()
    shutil.copy(builtin_model_folder() / "text_encoder" / "config.json", copy / "text_encoder")
    write_text_encoder(tmp_path / "encoder.safetensors")
    files = located(copy, text_encoder=str(tmp_path / "encoder.safetensors")).checkpoint()
    assert files.text_encoder == (str(tmp_path / "encoder.safetensors"),)


def test_a_named_folder_that_lacks_a_shard_says_which(tmp_path: Path, located) -> None:
    (tmp_path / "text_encoder").mkdir()
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (tmp_path / "text_encoder" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match="missing in .*: model-00001-of-00001.safetensors"):
        located("builtin", text_encoder=str(tmp_path)).checkpoint()


def test_a_home_of_nobody_is_an_error_of_the_configuration(located) -> None:
    with pytest.raises(ConfigError, match="the home folder that it begins with is not known"):
        located("~nobody-of-this-name/model")
