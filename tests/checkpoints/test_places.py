"""Where models are found: the hub's cache, ComfyUI's folders and those that it is told of."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from qied_client.errors import ModelNotFound, ModelUnsupported

from qied.checkpoints.comfyui import extra_model_paths
from qied.checkpoints.inspect import inspect
from qied.checkpoints.listing import listing
from qied.checkpoints.pipeline_folder import missing_parts, pipeline_checkpoint
from qied.checkpoints.places import FoundModel, choose_model, find_models, nothing_to_serve
from qied.resources import builtin_model_folder
from qied.weights.problems import BadFile
from tests.checkpoints.installations import (
    ENCODER,
    INDEX,
    REPOSITORY,
    SHARDS,
    TRANSFORMER,
    VAE,
    comfyui,
    diffusers_folder,
    diffusion_models,
    snapshot,
    write,
)
from tools.sparse_checkpoint import sparse_file


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
        (f"transformer/{SHARDS[1]}", f"transformer/{SHARDS[1]}"),
        ("text_encoder/model.safetensors", "text_encoder/model.safetensors"),
        ("vae", "vae/diffusion_pytorch_model.safetensors"),
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
    assert "incomplete" in nothing_to_serve([found]).message


def test_a_link_to_a_blob_that_was_never_finished_counts_as_missing(tmp_path: Path) -> None:
    path = snapshot(tmp_path / "hub")
    shard = path / "transformer" / SHARDS[0]
    shard.unlink()
    shard.symlink_to(tmp_path / "hub" / "blobs" / "gone")
    assert missing_parts(path) == (f"transformer/{SHARDS[0]}",)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"weight_map": 3}', '{"weight_map": {}}', "[" * 100_000])
def test_an_index_that_cannot_be_read_counts_as_missing(tmp_path: Path, content: str) -> None:
    path = diffusers_folder(tmp_path / "model")
    write(path / "transformer" / INDEX, content)
    assert missing_parts(path) == (f"transformer/{INDEX} (unreadable)",)


def test_an_unknown_component_must_at_least_have_files(tmp_path: Path) -> None:
    path = diffusers_folder(tmp_path / "model")
    index = json.loads((path / "model_index.json").read_text())
    write(path / "model_index.json", index | {"upscaler": ["library", "Class"], "unused": [None, None]})
    assert missing_parts(path) == ("upscaler/",)


def test_names_in_an_index_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    path = diffusers_folder(tmp_path / "model")
    write(tmp_path / "secret.safetensors")
    index = {"weight_map": {"a": "../../secret.safetensors"}}
    write(path / "transformer" / INDEX, index)
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


def test_a_transformer_is_found_at_every_depth_behind_links_and_among_the_checkpoints(tmp_path: Path) -> None:
    models = diffusion_models(tmp_path).parent
    for number, place in enumerate(("unet/a/b/c/d", "checkpoints/qwen", "../../disk/deep")):
        sparse_file(models / place / f"{number}.safetensors", *TRANSFORMER)
    (models / "diffusion_models" / "linked").symlink_to(tmp_path / "disk")
    sparse_file(models / "diffusion_models" / ".hidden" / "no.safetensors", *TRANSFORMER)
    assert [model.path.name[0] for model in find_models({}, tmp_path)] == ["2", "0", "1"]


@pytest.mark.parametrize(
    "names",
    [
        ["diffusion_pytorch_model.bf16.safetensors"],
        [
            "diffusion_pytorch_model.safetensors.index.fp16.json",
            *(name.replace("model-", "model.fp16-") for name in SHARDS),
        ],
        ["diffusion_pytorch_model.bf16.safetensors.index.json", *SHARDS],
    ],
)
def test_weights_with_a_variant_in_their_names_are_loaded_and_listed_alike(tmp_path: Path, names: list[str]) -> None:
    path = snapshot(tmp_path / ".cache/huggingface/hub")
    for file in (path / "transformer").glob("diffusion*"):
        file.unlink()
    weights = [name for name in names if name.endswith(".safetensors")]
    for name in names:
        write(path / "transformer" / name, {"weight_map": dict(zip("ab", weights, strict=False))})
    (found,) = find_models({}, tmp_path)
    assert found.complete
    assert [Path(file).name for file in pipeline_checkpoint(path).transformer] == weights
    (path / "transformer" / weights[-1]).unlink()
    (found,) = find_models({}, tmp_path)
    assert not found.complete
    with pytest.raises(ModelNotFound):
        pipeline_checkpoint(path)


def test_plain_weights_go_before_variants_and_several_variants_are_a_question(tmp_path: Path) -> None:
    path = snapshot(tmp_path / ".cache/huggingface/hub")
    plain = path / "vae" / "diffusion_pytorch_model.safetensors"
    for variant in ("bf16", "fp16"):
        write(plain.with_name(f"diffusion_pytorch_model.{variant}.safetensors"))
    assert pipeline_checkpoint(path).vae == (str(plain),)
    plain.unlink()
    with pytest.raises(ModelUnsupported, match="2 variants: bf16, fp16"):
        pipeline_checkpoint(path)
    assert "2 variants: bf16, fp16" in " ".join(inspect(path).problems)
    assert choose_model(find_models({}, tmp_path)) is None


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


@pytest.mark.parametrize("path", ["~/y", "$QIED_TEST_MODELS/y", "${QIED_TEST_MODELS}/y"])
def test_paths_may_start_at_home_or_with_a_variable_without_a_base_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("QIED_TEST_MODELS", str(tmp_path))
    write(tmp_path / "ComfyUI" / "extra_model_paths.yaml", f"a: &a\n  is_default: true\nb:\n  <<: *a\n  unet: {path}\n")
    sparse_file(tmp_path / "y" / "qwen_image_edit_2511.safetensors", *TRANSFORMER)
    assert len(find_models({}, tmp_path)) == 1


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("a:\n  vae: one\n  is_default: true\n  lists:\n    - two\n    - 3\n", [{"vae": ["one"], "lists": ["two"]}]),
        (
            "a:\n  clip: |\n    three\n\n    four\nb:\n  unet: five # why\n",
            [{"clip": ["three", "four"]}, {"unet": ["five"]}],
        ),
        ("'a b': {'vae': 'with # in it', \"clip\": \"x\"}", [{"vae": ["with # in it"], "clip": ["x"]}]),
        ("  a:\n    vae:\n      on-the-next-line\n", [{"vae": ["on-the-next-line"]}]),
        ("a: {}\nb:\nc: text\n", [{}]),
        ("", []),
    ],
)
def test_extra_model_paths_are_read_as_yaml(text: str, sections: list[dict[str, list[str]]]) -> None:
    read = extra_model_paths(text)
    assert [{key: paths for key, paths in section.items() if paths} for section in read] == sections


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *(
            (text, "it is not YAML")
            for text in (
                "a: [",
                "a:\n\tb: c",
                "\0",
                "a: 2020-99-99",
                "? {a: b}\n: c",
                "[" * 5000,
                "!!python/name:os.a",
            )
        ),
        ("- no sections", "it has no sections with paths"),
        ("no sections", "it has no sections with paths"),
        ('a:\n  base_path: "E:\\0models"\n  vae: vae', r"'E:\x00models' is not a path"),
    ],
)
def test_extra_model_paths_that_cannot_be_followed_are_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadFile, match=re.escape(said)):
        extra_model_paths(text)
    comfyui(tmp_path / "ComfyUI")
    write(tmp_path / "ComfyUI" / "extra_model_paths.yaml", text)
    (problem,) = (one.report.problems for one in listing({}, tmp_path, [], []) if one.report.role is None)
    assert f"extra_model_paths.yaml is left out: {said}" in problem[0]
    assert [model.complete for model in find_models({}, tmp_path)] == [True]


def test_the_same_model_is_listed_once(tmp_path: Path) -> None:
    comfyui(tmp_path / "ComfyUI")
    assert len(find_models({"COMFYUI_PATH": str(tmp_path / "ComfyUI")}, tmp_path)) == 1


def test_a_folder_that_cannot_be_listed_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / "ComfyUI").symlink_to(tmp_path / "ComfyUI")
    write(tmp_path / ".cache" / "huggingface" / "hub")
    assert find_models({}, tmp_path) == []


def test_loras_of_comfyui_lie_beside_its_models_and_where_it_is_told(tmp_path: Path) -> None:
    comfyui(tmp_path / "ComfyUI")
    write(tmp_path / "ComfyUI" / "extra_model_paths.yaml", f"a:\n  base_path: {tmp_path}\n  loras: store/loras\n")
    (found,) = find_models({}, tmp_path)
    assert found.loras == (tmp_path / "ComfyUI" / "models" / "loras", tmp_path / "store" / "loras")


def test_loras_are_listed_as_the_daemon_would_use_them(tmp_path: Path, write_lora: Any) -> None:
    write_lora(tmp_path / "disk2" / "ink.safetensors", blocks=(0,), modules=("attn.to_q",))
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "ink.safetensors").symlink_to(tmp_path / "disk2" / "ink.safetensors")
    (tmp_path / "loras" / "more").symlink_to(tmp_path / "disk2")
    reports = [one.report for one in listing({}, tmp_path, [tmp_path / "loras"], [])]
    assert [report.path.name for report in reports] == ["ink.safetensors", "more"]
    assert all("to model.loras" in report.problems[0] for report in reports)
    both = [one.report for one in listing({}, tmp_path, [tmp_path / "loras", tmp_path / "disk2"], [])]
    assert [(report.path.parent.name, report.problems) for report in both] == [
        ("loras", ()),
        ("more", ()),
        ("disk2", ()),
    ]
