from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from qied.checkpoints.comfyui import extra_model_paths
from qied.checkpoints.hub_cache import PULL, REPOSITORY
from qied.checkpoints.pipeline_folder import missing_parts
from qied.checkpoints.places import FoundModel, choose_model, explain_missing, find_models
from qied.planning.model_profile import shipped_downloads
from qied.resources import builtin_model_folder
from tests.checkpoints.files import MARKER
from tests.checkpoints.sparse_files import stored_as
from tools.sparse_checkpoint import sparse_file

TRANSFORMER, ENCODER, VAE = (
    stored_as(part, flavour)
    for part, flavour in (("transformer", "bf16"), ("text_encoder", "fp8_scaled"), ("vae", "bf16"))
)
COMPONENTS = ("transformer", "text_encoder", "vae", "scheduler", "tokenizer", "processor")
CONFIGS = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}


def write(path: Path, content: object = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def diffusers_folder(folder: Path) -> Path:
    """A whole checkpoint with two shards of the transformer and empty weights."""
    write(folder / "model_index.json", {"_class_name": "X", **{name: ["library", "Class"] for name in COMPONENTS}})
    for name in COMPONENTS:
        config = "preprocessor_config.json" if name == "processor" else CONFIGS.get(name, "config.json")
        write(folder / name / config, {})
    shards = [f"weights-{number}-of-2.safetensors" for number in (1, 2)]
    index = {"weight_map": {"first": shards[0], "second": shards[1]}}
    write(folder / "transformer" / "weights.safetensors.index.json", index)
    for shard in shards:
        write(folder / "transformer" / shard)
    write(folder / "text_encoder" / "model.safetensors")
    write(folder / "vae" / "diffusion_pytorch_model.safetensors")
    return folder


def snapshot(cache: Path, commit: str = "abc", main: bool = True) -> Path:
    repository = cache / f"models--{REPOSITORY.replace('/', '--')}"
    if main:
        write(repository / "refs" / "main", commit)
    return diffusers_folder(repository / "snapshots" / commit)


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    assert find_models({}, tmp_path) == []
    assert choose_model([]) is None


@pytest.mark.parametrize(
    ("environ", "cache"),
    [
        ({}, ".cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "{home}/xdg"}, "xdg/huggingface/hub"),
        ({"HF_HOME": "{home}/hf"}, "hf/hub"),
        ({"HF_HOME": "~/hf"}, "hf/hub"),
        ({"HF_HOME": "{home}/hf", "HF_HUB_CACHE": "{home}/weights"}, "weights"),
    ],
)
def test_a_downloaded_model_is_found_and_chosen(tmp_path: Path, environ: dict[str, str], cache: str) -> None:
    path = snapshot(tmp_path / cache)
    found = find_models({key: value.format(home=tmp_path) for key, value in environ.items()}, tmp_path)
    assert found == [FoundModel(path, "diffusers", "qwen-image-edit-2511")]
    assert choose_model(found) == found[0]


def test_the_built_in_model_is_whole() -> None:
    assert missing_parts(builtin_model_folder()) == ()


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ("model_index.json", "model_index.json"),
        ("transformer/weights-2-of-2.safetensors", "transformer/weights-2-of-2.safetensors"),
        ("text_encoder/model.safetensors", "text_encoder/*.safetensors"),
        ("vae", "vae/*.safetensors"),
        ("scheduler/scheduler_config.json", "scheduler/scheduler_config.json"),
        ("tokenizer", "tokenizer/tokenizer_config.json"),
        ("processor", "processor/preprocessor_config.json"),
    ],
)
def test_a_part_that_is_not_there_is_named(tmp_path: Path, gone: str, named: str) -> None:
    path = snapshot(tmp_path / "hub")
    shutil.rmtree(path / gone) if (path / gone).is_dir() else (path / gone).unlink()
    (found,) = find_models({"HF_HUB_CACHE": str(tmp_path / "hub")}, tmp_path)
    assert not found.complete
    assert named in found.missing
    assert choose_model([found]) is None
    assert "incomplete" in explain_missing([found])


def test_a_link_to_a_blob_that_was_never_finished_counts_as_missing(tmp_path: Path) -> None:
    path = snapshot(tmp_path / "hub")
    shard = path / "transformer" / "weights-1-of-2.safetensors"
    shard.unlink()
    shard.symlink_to(tmp_path / "hub" / "blobs" / "gone")
    assert missing_parts(path) == ("transformer/weights-1-of-2.safetensors",)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"weight_map": 3}', '{"weight_map": {}}', "[" * 100_000])
def test_an_index_that_cannot_be_read_counts_as_missing(tmp_path: Path, content: str) -> None:
    path = diffusers_folder(tmp_path / "model")
    write(path / "transformer" / "weights.safetensors.index.json", content)
    assert missing_parts(path) == ("transformer/weights.safetensors.index.json (unreadable)",)


def test_an_unknown_component_must_at_least_have_files(tmp_path: Path) -> None:
    path = diffusers_folder(tmp_path / "model")
    index = json.loads((path / "model_index.json").read_text())
    write(path / "model_index.json", index | {"upscaler": ["library", "Class"], "unused": [None, None]})
    assert missing_parts(path) == ("upscaler/",)


def test_names_in_an_index_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    path = diffusers_folder(tmp_path / "model")
    write(tmp_path / "secret.safetensors")
    index = {"weight_map": {"a": "../../secret.safetensors"}}
    write(path / "transformer" / "weights.safetensors.index.json", index)
    assert missing_parts(path) == ("transformer/secret.safetensors",)


def test_the_snapshot_of_the_main_branch_comes_first(tmp_path: Path) -> None:
    snapshot(tmp_path, "aaa", main=False)
    newest = snapshot(tmp_path, "bbb")
    snapshot(tmp_path, "ccc", main=False)
    found = find_models({"HF_HUB_CACHE": str(tmp_path)}, tmp_path)
    assert [model.path.name for model in found] == ["bbb", "aaa", "ccc"]
    chosen = choose_model(found)
    assert chosen is not None and chosen.path == newest
    (newest / "vae" / "config.json").unlink()
    chosen = choose_model(find_models({"HF_HUB_CACHE": str(tmp_path)}, tmp_path))
    assert chosen is not None and chosen.path.name == "aaa"


def comfyui(root: Path, transformer: str = "qwen_image_edit_2511_bf16.safetensors") -> Path:
    """A ComfyUI folder with the real model, as headers without data."""
    models = root / "models"
    sparse_file(models / "text_encoders" / "qwen_2.5_vl_7b_fp8_scaled.safetensors", *ENCODER)
    sparse_file(models / "vae" / "qwen_image_vae.safetensors", *VAE)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        write(root / "comfy" / "text_encoders" / "qwen25_tokenizer" / name, "x")
    return sparse_file(models / "diffusion_models" / transformer, *TRANSFORMER)


@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({}, "ComfyUI"),
        ({}, "comfyui"),
        ({}, "Documents/ComfyUI"),
        ({"COMFYUI_PATH": "{home}/a"}, "a"),
        ({"COMFYUI_PATH": "{home}/a/models"}, "a"),
        ({"COMFYUI_DIR": "~/b"}, "b"),
    ],
)
def test_the_files_of_comfyui_are_found_and_chosen(tmp_path: Path, environ: dict[str, str], root: str) -> None:
    path = comfyui(tmp_path / root)
    found = find_models({key: value.format(home=tmp_path) for key, value in environ.items()}, tmp_path)
    assert found == [FoundModel(path, "comfyui", "qwen-image-edit-2511")]
    assert found[0].complete
    assert choose_model(found) == found[0]


def test_a_whole_folder_is_chosen_before_single_files(tmp_path: Path) -> None:
    comfyui(tmp_path / "ComfyUI")
    path = snapshot(tmp_path / ".cache" / "huggingface" / "hub")
    chosen = choose_model(find_models({}, tmp_path))
    assert chosen is not None and chosen.path == path


def test_a_file_that_may_be_2509_is_listed_and_not_chosen(tmp_path: Path) -> None:
    entries = {name: entry for name, entry in TRANSFORMER[0].items() if name != MARKER}
    comfyui(tmp_path / "ComfyUI")
    sparse_file(tmp_path / "ComfyUI" / "models" / "diffusion_models" / "a_2511.safetensors", entries, {})
    unmarked, marked = find_models({}, tmp_path)
    assert unmarked.path.name == "a_2511.safetensors" and not unmarked.complete
    assert "2509 or 2511" in unmarked.problems[0]
    assert choose_model([unmarked, marked]) == marked


@pytest.mark.parametrize(
    ("file", "listed"),
    [
        ("qwen-image-edit-2511-Q4_K_M.gguf", True),
        ("sub/qwen_image_edit_2511_cut.safetensors", True),
        ("flux1-dev.safetensors", False),
        ("qwen_image_edit.txt", False),
    ],
)
def test_files_of_this_family_that_cannot_be_used_are_listed_and_others_passed_over(
    tmp_path: Path, file: str, listed: bool
) -> None:
    write(tmp_path / "ComfyUI" / "models" / "diffusion_models" / file, "GGUF" + "x" * 100)
    found = find_models({}, tmp_path)
    assert len(found) == listed
    assert not any(model.complete for model in found)


@pytest.mark.parametrize(
    ("gone", "missing"),
    [("models/vae", "VAE"), ("models/text_encoders", "text encoder"), ("comfy", "tokenizer")],
)
def test_what_comfyui_lacks_is_named(tmp_path: Path, gone: str, missing: str) -> None:
    comfyui(tmp_path / "ComfyUI")
    shutil.rmtree(tmp_path / "ComfyUI" / gone)
    (found,) = find_models({}, tmp_path)
    assert found.missing == (missing,)
    assert choose_model([found]) is None


def test_what_comfyui_lacks_may_lie_in_the_hub_cache(tmp_path: Path) -> None:
    comfyui(tmp_path / "ComfyUI")
    shutil.rmtree(tmp_path / "ComfyUI" / "comfy")
    part = tmp_path / "hub" / f"models--{REPOSITORY.replace('/', '--')}" / "snapshots" / "1" / "tokenizer"
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        write(part / name)
    found = find_models({"HF_HUB_CACHE": str(tmp_path / "hub")}, tmp_path)
    assert [(model.layout, model.missing) for model in found] == [("comfyui", ())]


def test_extra_model_paths_are_followed(tmp_path: Path) -> None:
    store = tmp_path / "store"
    path = sparse_file(store / "big" / "qwen_image_edit_2511_bf16.safetensors", *TRANSFORMER)
    sparse_file(store / "clip" / "qwen_2.5_vl_7b.safetensors", *ENCODER)
    sparse_file(tmp_path / "elsewhere" / "qwen_image_vae.safetensors", *VAE)
    write(
        tmp_path / "ComfyUI" / "extra_model_paths.yaml",
        f"""
# where the models lie
comfyui:
    base_path: "{store}"   # a large disk
    is_default: true
    diffusion_models: |
        small
        big
    clip: clip/
other:
    vae: {tmp_path}/elsewhere
""",
    )
    assert find_models({}, tmp_path) == [FoundModel(path, "comfyui", "qwen-image-edit-2511", ("tokenizer",))]


def test_a_base_path_may_be_relative_or_start_at_home(tmp_path: Path) -> None:
    write(tmp_path / "ComfyUI" / "extra_model_paths.yaml", "a:\n  base_path: ../store\n  unet: x\nb:\n  unet: ~/y\n")
    sparse_file(tmp_path / "store" / "x" / "qwen_image_edit_2511.safetensors", *TRANSFORMER)
    assert len(find_models({}, tmp_path)) == 1


def test_lines_that_are_no_paths_are_passed_over() -> None:
    text = (
        "- a list\n  orphan: x\nsection:\n  vae: one\n  lists:\n    - two\n\n  clip: |\n    three # why\n  unet: four\n"
    )
    assert extra_model_paths(text) == [{"vae": ["one"], "lists": [], "clip": ["three"], "unet": ["four"]}]
    assert extra_model_paths("\0\n:\n: :\n|") == [{}, {}]


def test_the_same_model_is_listed_once(tmp_path: Path) -> None:
    comfyui(tmp_path / "ComfyUI")
    assert len(find_models({"COMFYUI_PATH": str(tmp_path / "ComfyUI")}, tmp_path)) == 1


def test_a_folder_that_cannot_be_listed_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / "ComfyUI").symlink_to(tmp_path / "ComfyUI")
    write(tmp_path / ".cache" / "huggingface" / "hub")
    assert find_models({}, tmp_path) == []


@pytest.mark.parametrize("found", ["nothing", "comfyui", "incomplete", "many"])
def test_the_explanation_is_short_and_says_what_to_do(tmp_path: Path, found: str) -> None:
    deep = tmp_path / ("a-rather-long-folder-name-" * 3)
    if found in ("comfyui", "many"):
        for number in range(5 if found == "many" else 1):
            comfyui(deep / "ComfyUI", f"qwen_image_edit_2511_{number}.safetensors")
        shutil.rmtree(deep / "ComfyUI" / "models" / "vae")
    if found in ("incomplete", "many"):
        (snapshot(deep / ".cache" / "huggingface" / "hub", "0123456789abcdef" * 2) / "vae" / "config.json").unlink()
    text = explain_missing(find_models({}, deep))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 13
    assert PULL in text
    assert "qied serve --model builtin" in text
    assert ("incomplete: VAE missing" in text) == (found in ("comfyui", "many"))
    assert ("incomplete: vae/config.json missing" in text) == (found in ("incomplete", "many"))
    assert ("and 3 more" in text) == (found == "many")


def test_the_command_of_the_explanation_pulls_what_is_looked_for() -> None:
    command, name = PULL.rsplit(" ", 1)
    assert command == "qied pull"
    assert shipped_downloads()[name].repository == REPOSITORY


def test_loras_of_comfyui_lie_beside_its_models_and_where_it_is_told(tmp_path: Path) -> None:
    comfyui(tmp_path / "ComfyUI")
    write(tmp_path / "ComfyUI" / "extra_model_paths.yaml", f"a:\n  base_path: {tmp_path}\n  loras: store/loras\n")
    (found,) = find_models({}, tmp_path)
    assert found.loras == (tmp_path / "ComfyUI" / "models" / "loras", tmp_path / "store" / "loras")
