"""Which model is served, and what is said where there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from qied_client.errors import ConfigError, ModelNotFound, ModelUnsupported
from safetensors.torch import load_file, save_file

from qied.checkpoints.inspect import inspect
from qied.checkpoints.places import FoundModel
from qied.config import ModelConfig
from qied.planning.profiles.model_profile import shipped_profiles
from qied.resources import builtin_model_folder
from qied.serving.model import ServedModel, locate_model
from tests.checkpoints.files import write_text_encoder, write_transformer, write_vae


def config(**fields):
    return ModelConfig.model_validate(fields)


def test_the_built_in_model_is_served_by_name_only(tmp_path):
    served = locate_model(config(path="builtin"), {}, tmp_path)
    assert (served.origin, served.profile_name) == (builtin_model_folder(), "builtin")
    with pytest.raises(ModelNotFound) as caught:
        locate_model(config(), {}, tmp_path)
    assert "qied pull" in caught.value.remedy
    assert "qied serve --model builtin" in caught.value.remedy


def test_a_folder_gets_the_profile_that_fits_its_transformer():
    served = locate_model(config(path=str(builtin_model_folder())), {}, builtin_model_folder())
    assert served.profile_name == "builtin"


def test_a_found_folder_of_2511_is_served(tmp_path):
    snapshot = tmp_path / ".cache/huggingface/hub/models--Qwen--Qwen-Image-Edit-2511/snapshots/1"
    (snapshot / "transformer").mkdir(parents=True)
    (snapshot / "model_index.json").write_text(json.dumps({"_class_name": "QwenImageEditPlusPipeline"}))
    facts = {"num_layers": 60, "num_attention_heads": 24, "attention_head_dim": 128, "zero_cond_t": True}
    (snapshot / "transformer" / "config.json").write_text(json.dumps(facts))
    served = locate_model(config(), {}, tmp_path)
    assert (served.origin, served.profile_name) == (snapshot, "qwen-image-edit-2511")


def test_a_path_without_a_model_is_said_to_be_none(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    for name, said in (("model.safetensors", "a folder without model_index.json"), ("none", "no file or folder")):
        with pytest.raises(ModelNotFound, match=f"{name} is not a model: it is {said}"):
            locate_model(config(path=str(tmp_path / name)), {}, tmp_path)


@pytest.mark.parametrize("text", ["", "{}", '{"num_layers": 3, "num_attention_heads": 1, "attention_head_dim": 1}'])
def test_a_model_that_no_profile_fits_is_unsupported(tmp_path, text):
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text(text)
    with pytest.raises(ModelUnsupported):
        locate_model(config(path=str(tmp_path)), {}, tmp_path)


def test_an_unknown_profile_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="neither a profile nor a file") as caught:
        locate_model(config(path=str(builtin_model_folder()), profile="2512"), {}, builtin_model_folder())
    assert "qwen-image-edit-2511" in caught.value.remedy


def test_loras_come_from_the_configured_folders_first(tmp_path, write_lora):
    for folder, blocks in (("one", (0,)), ("two", (0, 1))):
        write_lora(tmp_path / folder / "style.safetensors", blocks=blocks)
    write_lora(tmp_path / "two" / "sub" / "more.safetensors")
    served = locate_model(config(path="builtin", loras=[str(tmp_path / "one"), str(tmp_path / "two")]), {}, tmp_path)
    assert {"style", "sub/more"} <= set(served.loras.files)
    assert served.loras.files["style"].path == str(tmp_path / "one" / "style.safetensors")


def test_a_folder_of_loras_that_is_not_there_is_an_error_of_the_configuration(tmp_path):
    with pytest.raises(ConfigError, match=r"model\.loras: .*missing is not a folder"):
        locate_model(config(path="builtin", loras=[str(tmp_path / "missing")]), {}, tmp_path)


def test_the_built_in_model_brings_its_own_loras_and_no_other_model_gets_them(tmp_path, write_lora, monkeypatch):
    write_lora(tmp_path / "own" / "pixels.safetensors")
    monkeypatch.setattr("qied.serving.model.builtin_loras_folder", lambda: tmp_path / "own")
    assert set(locate_model(config(path="builtin"), {}, tmp_path).loras.files) == {"pixels"}
    named = locate_model(config(path=str(builtin_model_folder()), profile="qwen-image-edit-2511"), {}, tmp_path)
    assert named.loras.facts == {}


def test_loras_beside_a_model_that_was_found_are_its_own(tmp_path, write_lora, monkeypatch):
    write_lora(tmp_path / "models" / "loras" / "style.safetensors")
    found = FoundModel(builtin_model_folder(), "diffusers", "small", loras=(tmp_path / "models" / "loras",))
    monkeypatch.setattr("qied.serving.model.find_models", lambda *_: [found])
    assert "style" in locate_model(config(), {}, tmp_path).loras.files


@pytest.mark.parametrize(
    ("origin", "name"),
    [
        ("/models/qwen_image_edit_2509_fp8_e4m3fn.safetensors", "qwen_image_edit_2509_fp8_e4m3fn.safetensors"),
        ("/models/Qwen-Image-Edit-2509", "Qwen-Image-Edit-2509"),
        ("/hub/models--Qwen--Qwen-Image-Edit-2509/snapshots/1a2b", "Qwen-Image-Edit-2509"),
        ("/hub/models--Qwen--Qwen-Image-Edit-2511/snapshots/a2509b", None),
        ("/models-2509/qwen_image_edit_2511_bf16.safetensors", None),
        ("/models/my-model.safetensors", None),
    ],
)
def test_a_name_that_contradicts_the_version_it_is_served_as_is_told(origin, name):
    profile = shipped_profiles()["qwen-image-edit-2511"]
    warnings = ServedModel(Path(origin), profile, profile.name).warnings
    assert [f"The model is named {name}, but is served as 2511." in text for text in warnings] == [True] * bool(name)
    builtin = shipped_profiles()["builtin"]
    assert ServedModel(Path(origin), builtin, builtin.name).warnings == ()


def test_a_folder_of_weight_files_alone_is_told_with_their_names(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.GGUF", "c.safetensors", "d.gguf", "readme.md"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelNotFound) as caught:
        locate_model(ModelConfig(path=str(tmp_path)), {}, tmp_path)
    assert "it holds a.gguf, b.GGUF, c.safetensors and 1 more." in caught.value.message
    assert caught.value.remedy == "Name the file of the transformer."


@pytest.mark.parametrize("target", ["nowhere.safetensors", "itself.safetensors"])
def test_a_link_to_nothing_is_told_as_one(tmp_path: Path, target: str) -> None:
    link = tmp_path / "itself.safetensors"
    link.symlink_to(tmp_path / target)
    with pytest.raises(ModelNotFound, match=f"itself.safetensors is a link to nothing: .*{target}"):
        locate_model(ModelConfig(path=str(link)), {}, tmp_path)


def test_a_repository_of_split_files_is_a_comfyui(tmp_path: Path) -> None:
    models = tmp_path / "split_files"
    path = models / "diffusion_models" / "qwen_image_edit_2511_bf16.safetensors"
    write_transformer(path)
    write_text_encoder(models / "text_encoders" / "qwen_2.5_vl_7b.safetensors")
    write_vae(models / "vae" / "qwen_image_vae.safetensors")
    assert locate_model(ModelConfig(path=str(tmp_path)), {}, tmp_path).origin == path


def _held_twice(folder: Path) -> str:
    first, second = sorted((folder / "transformer").glob("*.safetensors"))
    tensors = load_file(second) | {"img_in.bias": load_file(first)["img_in.bias"] + 1}
    second.unlink()
    save_file(tensors, second)
    return f"'img_in.bias' is in {first.name} and in {second.name}"


def _unnamed(folder: Path) -> str:
    index = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    content = json.loads(index.read_text())
    first = min(content["weight_map"].values())
    content["weight_map"] = {name: file for name, file in content["weight_map"].items() if file == first}
    index.unlink()
    index.write_text(json.dumps(content))
    return "100 tensors are missing: 'norm_out.linear.weight', "


def _cut(folder: Path) -> str:
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[:-2])
    return "diffusion_pytorch_model.safetensors cannot be used: it is truncated at "


@pytest.mark.parametrize("damage", [_held_twice, _unnamed, _cut])
def test_what_is_wrong_with_a_folders_weights_is_known_before_a_worker_starts(
    tmp_path: Path, damage: Callable[[Path], str]
) -> None:
    folder = shutil.copytree(builtin_model_folder(), tmp_path / "model")
    locate_model(ModelConfig(path=str(folder)), {}, tmp_path).check_weights()
    said = damage(folder)
    with pytest.raises(ModelUnsupported) as caught:
        locate_model(ModelConfig(path=str(folder)), {}, tmp_path).check_weights()
    assert said in caught.value.message
    assert "ownload" in caught.value.remedy
    assert any(said.rpartition("safetensors cannot be used: ")[2] in one for one in inspect(folder).problems)
