"""Which of several models is served, and which model a file or folder is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from qied_client.errors import ModelNotFound, ModelUnsupported

from qied.checkpoints.assembly import NamedParts, assemble
from qied.checkpoints.hub_cache import PULL
from qied.checkpoints.inspect import inspect
from qied.checkpoints.pipeline_folder import pipeline_checkpoint, pipeline_evidence
from qied.checkpoints.places import choose_model, find_models, nothing_to_serve, places
from qied.checkpoints.small_files import files_below
from qied.checkpoints.versions import Evidence
from qied.planning.profiles.model_names import called
from qied.planning.profiles.model_profile import shipped_downloads, versions
from tests.checkpoints.installations import (
    REPOSITORY,
    comfyui,
    diffusers_folder,
    diffusion_models,
    snapshot,
    write,
)


def test_a_whole_folder_is_chosen_before_single_files(tmp_path: Path) -> None:
    comfyui(tmp_path / "ComfyUI")
    path = snapshot(tmp_path / ".cache" / "huggingface" / "hub")
    chosen = choose_model(find_models({}, tmp_path))
    assert chosen is not None and chosen.path == path


SAID = NamedParts(version="2511")


def chosen(home: Path, named: NamedParts) -> str | None:
    found = choose_model(find_models({}, home, named), named.version)
    return None if found is None else found.path.name.removesuffix(".safetensors")


def test_a_file_that_says_itself_that_it_is_2511_goes_before_every_name(tmp_path: Path) -> None:
    diffusion_models(tmp_path, a_2511=False, qwen_image_edit_2509=False, some=False, z_marked=True)
    assert chosen(tmp_path, NamedParts()) == chosen(tmp_path, SAID) == "z_marked"


def test_a_name_of_2511_goes_before_files_whose_names_say_nothing(tmp_path: Path) -> None:
    diffusion_models(tmp_path, qwen_image_2512=False, a_merge=False, qwen_image_edit_2511=False)
    with pytest.raises(ModelNotFound, match="1 model can be served, and none is named") as caught:
        chosen(tmp_path, NamedParts())
    assert "qwen_image_2512.safetensors  (qwen-image-2512, by its name)" in str(caught.value)
    assert chosen(tmp_path, SAID) == "qwen_image_edit_2511"
    (tmp_path / "ComfyUI/models/diffusion_models/qwen_image_edit_2511.safetensors").unlink()
    assert chosen(tmp_path, SAID) == "a_merge"


@pytest.mark.parametrize(
    ("name", "version", "model"),
    [
        ("qwen_image_edit_2509_fp8_e4m3fn", "2509", "qwen-image-edit-2509"),
        ("qwen_image_2512_bf16", "2512", "qwen-image-2512"),
        ("qwen_image_edit_fp8_e4m3fn", "edit", "qwen-image-edit"),
        ("Qwen-Image-Edit-Q4_K_M", "edit", "qwen-image-edit"),
        ("qwen_image_bf16", "qwen-image", "qwen-image"),
        ("FireRed-Image-Edit-1.1-bf16", "firered-1.1", "firered-image-edit-1.1"),
    ],
)
def test_a_file_is_the_model_that_it_is_named_for_unless_a_person_says_otherwise(
    tmp_path: Path, name: str, version: str, model: str
) -> None:
    path = diffusion_models(tmp_path, **{name: False}) / f"{name}.safetensors"
    assert chosen(tmp_path, NamedParts()) == chosen(tmp_path, NamedParts(version=version)) == name
    (found,) = find_models({}, tmp_path, SAID)
    assert found.problems[0].startswith(f"By its name it is {called(version)}, but model.version says 2511.")
    assert chosen(tmp_path, SAID) is None
    assert inspect(path, "2511").problems == found.problems
    for said, served in (("", model), (version, model), ("2511", "qwen-image-edit-2511")):
        checkpoint, profile = assemble(path, NamedParts(version=said), places({}, tmp_path))
        assert (checkpoint.transformer, profile.name) == ((str(path),), served)


@pytest.mark.parametrize("name", ["qwen_image_layered_bf16", "FireRed-Image-Edit-bf16", "qwen_image_edit_2507"])
def test_a_file_that_is_named_for_a_model_that_is_not_run_is_not_served(tmp_path: Path, name: str) -> None:
    path = diffusion_models(tmp_path, **{name: False}) / f"{name}.safetensors"
    for named in (NamedParts(), SAID):
        (found,) = find_models({}, tmp_path, named)
        assert "which has the same tensors as 2511, but is not run" in found.problems[0]
    with pytest.raises(ModelUnsupported, match="but is not run"):
        assemble(path, NamedParts(), places({}, tmp_path))
    assert assemble(path, NamedParts(version="2509"), places({}, tmp_path))[1].version == "2509"


def test_another_model_is_served_unasked_only_where_it_is_the_only_one(tmp_path: Path) -> None:
    diffusion_models(tmp_path, qwen_image_edit_2509=False)
    assert chosen(tmp_path, NamedParts()) == "qwen_image_edit_2509"
    diffusion_models(tmp_path, qwen_image_2512=False)
    with pytest.raises(ModelNotFound, match="2 models can be served"):
        chosen(tmp_path, NamedParts())
    assert chosen(tmp_path, NamedParts(version="2512")) == "qwen_image_2512"


def test_what_is_most_likely_meant_is_explained_first(tmp_path: Path) -> None:
    diffusion_models(tmp_path, **{f"qwen_image_25{number}": False for number in ("07", "08", "09", "11", "12")})
    shown = [
        line for line in nothing_to_serve(find_models({}, tmp_path)).message.splitlines() if "qwen_image_25" in line
    ]
    assert [line[-16:-12] for line in shown] == ["2511", "2507", "2508"]


def test_a_folder_may_say_what_its_files_are(tmp_path: Path) -> None:
    diffusion_models(tmp_path, **{"Qwen-Edit-2509/model": False, "other/model": False})
    assert [bool(model.problems) for model in find_models({}, tmp_path, SAID)] == [True, False]


@pytest.mark.parametrize("marked", [True, False])
def test_of_files_that_are_as_good_a_person_has_to_name_one(tmp_path: Path, marked: bool) -> None:
    diffusion_models(tmp_path, qwen_image_edit_2511_bf16=marked, qwen_image_edit_2511_lightning_4steps=marked)
    with pytest.raises(ModelNotFound, match="2 models can be served") as caught:
        choose_model(find_models({}, tmp_path, SAID))
    for name in ("bf16", "lightning_4steps"):
        assert f"--model {tmp_path}/ComfyUI/models/diffusion_models/qwen_image_edit_2511_{name}.safetensors" in str(
            caught.value
        )


def test_a_file_that_links_lead_to_is_no_choice(tmp_path: Path) -> None:
    folder = diffusion_models(tmp_path, one=True)
    (folder / "another.safetensors").symlink_to(folder / "one.safetensors")
    (folder / "linked").symlink_to(folder)
    assert len(list(files_below(folder, (".safetensors",)))) == 2, "a circle of links is gone through once"
    assert len(find_models({}, tmp_path)) == 1


def test_a_folder_of_2509_is_known_before_anything_starts(tmp_path: Path) -> None:
    path = snapshot(tmp_path / ".cache/huggingface/hub")
    write(path / "transformer" / "config.json", {"num_layers": 60})
    (found,) = find_models({}, tmp_path)
    assert "does not set zero_cond_t" in found.problems[0] and choose_model([found]) is None
    assert inspect(path).problems == found.problems
    with pytest.raises(ModelUnsupported, match="is named 2511, but"):
        pipeline_checkpoint(path)


@pytest.mark.parametrize("version", versions())
def test_the_folder_of_each_model_is_known_by_its_configuration_and_its_name(tmp_path: Path, version: str) -> None:
    profile = versions()[version]
    path = snapshot(tmp_path / ".cache/huggingface/hub", repository=profile.repository)
    index = json.loads((path / "model_index.json").read_text())
    write(path / "model_index.json", {**index, "_class_name": profile.pipeline})
    write(path / "transformer" / "config.json", {"zero_cond_t": True} if profile.zero_cond_t else {})
    (found,) = find_models({}, tmp_path)
    assert (found.path, found.name, found.complete) == (path, profile.name, True)
    assert found.evidence.version == version
    assert choose_model([found]) == found


@pytest.mark.parametrize(
    ("pipeline", "version"),
    [("QwenImageEditPlusPipeline", "2509"), ("QwenImageEditPipeline", "edit"), ("QwenImagePipeline", "qwen-image")],
)
def test_a_folder_whose_name_says_nothing_is_known_by_its_configuration(
    tmp_path: Path, pipeline: str, version: str
) -> None:
    path = diffusers_folder(tmp_path / "mine")
    write(path / "transformer" / "config.json", {})
    write(path / "model_index.json", {"_class_name": pipeline})
    assert pipeline_evidence(path) == Evidence(version, "configuration")


@pytest.mark.parametrize("found", ["nothing", "comfyui", "incomplete", "many"])
def test_the_explanation_is_short_and_says_what_to_do(tmp_path: Path, found: str) -> None:
    deep = tmp_path / ("a-rather-long-folder-name-" * 3)
    if found in ("comfyui", "many"):
        for number in range(5 if found == "many" else 1):
            comfyui(deep / "ComfyUI", f"qwen_image_edit_2511_{number}.safetensors")
        shutil.rmtree(deep / "ComfyUI" / "models" / "vae")
    if found in ("incomplete", "many"):
        (snapshot(deep / ".cache" / "huggingface" / "hub", "0123456789abcdef" * 2) / "vae" / "config.json").unlink()
    error = nothing_to_serve(find_models({}, deep))
    text, remedies = error.message, error.remedy.splitlines()
    assert max(map(len, text.splitlines())) <= 80 and max(map(len, remedies)) <= 72
    assert len(text.splitlines()) <= 10
    assert remedies[0].endswith(f": {PULL}")
    assert remedies[-1].endswith(": qied serve --model builtin")
    assert ("incomplete: VAE missing" in text) == (found in ("comfyui", "many"))
    assert ("incomplete: vae/config.json missing" in text) == (found in ("incomplete", "many"))
    assert ("and 3 more" in text) == (found == "many")


def test_the_command_of_the_explanation_pulls_what_is_looked_for() -> None:
    command, name = PULL.rsplit(" ", 1)
    assert command == "qied pull"
    assert shipped_downloads()[name].repository == REPOSITORY
