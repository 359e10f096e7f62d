"""The model's files: found, complete, whole."""

from __future__ import annotations

import json
import shutil

import pytest

from qied.config import ModelConfig
from qied.doctor.findings import Status
from qied.resources import builtin_model_folder
from qied.serving.model import locate_model

HUB = ".cache/huggingface/hub/models--Qwen--Qwen-Image-Edit-2511/snapshots/1"


@pytest.fixture
def copy(tmp_path):
    """A copy of the built-in model that may be damaged."""
    return shutil.copytree(builtin_model_folder(), tmp_path / "model")


@pytest.fixture
def with_model(facts, tmp_path):
    """Facts of a machine where this model is configured, or whatever is found."""

    def make(path="", **fields):
        config = ModelConfig.model_validate({"path": str(path)})
        try:
            model = locate_model(config, {}, tmp_path / "user")
        except Exception as problem:  # noqa: BLE001 - as it is when facts are put together
            model = problem
        return facts(model=model, **fields)

    return make


@pytest.mark.parametrize("check", ["found", "files", "weights", "tokenizer", "zero_cond_t"])
def test_the_built_in_model_is_in_order(with_model, ask, check):
    assert ask(f"model.{check}", with_model("builtin")).status is Status.OK


def test_where_there_is_no_model_it_says_how_to_get_one(with_model, ask):
    found = ask("model.found", with_model())
    assert (found.status, found.message) == (
        Status.ERROR,
        "No model is configured, and none was found on this machine.",
    )
    assert found.remedy.startswith("qied pull qwen-image-edit-2511") and "--model builtin" in found.remedy
    assert ask("model.files", with_model()).status is Status.SKIPPED


def test_a_download_that_was_broken_off_is_found_as_such(with_model, ask, tmp_path):
    snapshot = tmp_path / "user" / HUB
    snapshot.mkdir(parents=True)
    found = ask("model.found", with_model())
    assert found.status is Status.ERROR
    assert "is incomplete: model_index.json missing" in found.message


def test_comfyuis_single_file_is_not_taken_for_a_model(with_model, ask, tmp_path):
    folder = tmp_path / "user" / "ComfyUI" / "models" / "diffusion_models"
    folder.mkdir(parents=True)
    (folder / "qwen_image_edit_2511_bf16.safetensors").write_bytes(b"")
    found = ask("model.found", with_model())
    assert (found.status, "qwen_image_edit_2511_bf16.safetensors" in found.message) == (Status.ERROR, True)


def test_a_configured_folder_without_a_model_is_told(with_model, ask, tmp_path):
    found = ask("model.found", with_model(tmp_path))
    assert (found.status, "is not a model" in found.message) == (Status.ERROR, True)


def test_a_missing_shard_is_named(with_model, ask, copy):
    (copy / "transformer" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    found = ask("model.files", with_model(copy))
    assert (found.status, "00002-of-00002.safetensors missing" in found.message) == (Status.ERROR, True)


def test_a_cut_weight_file_is_named_with_its_length(with_model, ask, copy):
    shard = copy / "transformer" / "diffusion_pytorch_model-00001-of-00002.safetensors"
    whole = shard.stat().st_size
    with shard.open("r+b") as file:
        file.truncate(whole - 100)
    found = ask("model.weights", with_model(copy))
    assert found.status is Status.ERROR
    assert "00001-of-00002.safetensors is damaged: it is truncated at 'txt_norm.weight': " in found.message


def test_a_model_without_weight_files_is_not_whole(with_model, ask, copy):
    for file in copy.rglob("*.safetensors"):
        file.unlink()
    assert ask("model.weights", with_model(copy)).status is Status.SKIPPED
    assert ask("model.files", with_model(copy)).status is Status.ERROR


def test_a_tokenizer_may_have_either_of_its_forms_but_needs_one(with_model, ask, copy):
    (copy / "tokenizer" / "tokenizer.json").unlink()
    assert ask("model.tokenizer", with_model(copy)).status is Status.OK
    (copy / "tokenizer" / "merges.txt").unlink()
    found = ask("model.tokenizer", with_model(copy))
    assert (found.status, str(copy) in found.remedy) == (Status.ERROR, True)


@pytest.mark.parametrize("value", [False, None])
def test_a_transformer_without_zero_cond_t_is_not_2511(with_model, ask, copy, value):
    path = copy / "transformer" / "config.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "zero_cond_t": value}))
    found = ask("model.found", with_model(copy))
    assert (found.status, "2509 by its configuration" in found.message) == (Status.ERROR, True)


@pytest.mark.parametrize("check", ["found", "files", "weights", "tokenizer", "zero_cond_t"])
def test_for_another_machine_no_files_are_looked_at(with_model, ask, check):
    assert ask(f"model.{check}", with_model("builtin", this_machine=False)).status is Status.SKIPPED


def test_sound_files_without_all_tensors_of_the_model_are_told(with_model, ask, copy):
    index = copy / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] = {name: min(content["weight_map"].values()) for name in content["weight_map"]}
    index.unlink()
    index.write_text(json.dumps(content))
    found = ask("model.weights", with_model(copy))
    assert found.status is Status.ERROR
    assert "100 tensors are missing" in found.message and "qied pull" in found.remedy
