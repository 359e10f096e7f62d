from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from qied_client.errors import ModelNotFound, ModelUnsupported

from qied.checkpoints.assembly import NamedParts, assemble
from qied.checkpoints.comfyui import extra_model_paths
from qied.checkpoints.hub_cache import PULL
from qied.checkpoints.inspect import inspect
from qied.checkpoints.listing import listing
from qied.checkpoints.pipeline_folder import missing_parts, pipeline_checkpoint, pipeline_evidence
from qied.checkpoints.places import FoundModel, choose_model, find_models, nothing_to_serve, places
from qied.checkpoints.small_files import files_below
from qied.checkpoints.versions import Evidence
from qied.planning.profiles.model_names import called
from qied.planning.profiles.model_profile import shipped_downloads, versions
from qied.resources import builtin_model_folder
from qied.weights.problems import BadFile
from tests.checkpoints.files import MARKER
from tests.checkpoints.sparse_files import stored_as
from tools.sparse_checkpoint import sparse_file

REPOSITORY = versions()["2511"].repository
TRANSFORMER, ENCODER, VAE = (
    stored_as(part, flavour)
    for part, flavour in (("transformer", "bf16"), ("text_encoder", "fp8_scaled"), ("vae", "bf16"))
)
COMPONENTS = ("transformer", "text_encoder", "vae", "scheduler", "tokenizer", "processor")
SHARDS = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
INDEX = "diffusion_pytorch_model.safetensors.index.json"
CONFIGS = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}


def write(path: Path, content: object = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def diffusers_folder(folder: Path) -> Path:
    """A whole checkpoint with two shards of the transformer and empty weights."""
    parts = {name: ["library", "Class"] for name in COMPONENTS}
    write(folder / "model_index.json", {"_class_name": "QwenImageEditPlusPipeline", **parts})
    for name in COMPONENTS:
        config = "preprocessor_config.json" if name == "processor" else CONFIGS.get(name, "config.json")
        write(folder / name / config, {"zero_cond_t": True} if name == "transformer" else {})
    index = {"weight_map": {"first": SHARDS[0], "second": SHARDS[1]}}
    write(folder / "transformer" / INDEX, index)
    for shard in SHARDS:
        write(folder / "transformer" / shard)
    write(folder / "text_encoder" / "model.safetensors")
    write(folder / "vae" / "diffusion_pytorch_model.safetensors")
    return folder


def snapshot(cache: Path, commit: str = "abc", main: bool = True, repository: str = REPOSITORY) -> Path:
    stored = cache / f"models--{repository.replace('/', '--')}"
    if main:
        write(stored / "refs" / "main", commit)
    return diffusers_folder(stored / "snapshots" / commit)


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


def diffusion_models(home: Path, **files: bool) -> Path:
    """A ComfyUI with these transformers; those with True say themselves that they are 2511."""
    path = comfyui(home / "ComfyUI", "gone.safetensors")
    path.unlink()
    entries = {name: entry for name, entry in TRANSFORMER[0].items() if name != MARKER}
    for name, marked in files.items():
        sparse_file(path.parent / f"{name}.safetensors", TRANSFORMER[0] if marked else entries, {})
    return path.parent


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


def test_a_transformer_is_found_at_every_depth_behind_links_and_among_the_checkpoints(tmp_path: Path) -> None:
    models = diffusion_models(tmp_path).parent
    for number, place in enumerate(("unet/a/b/c/d", "checkpoints/qwen", "../../disk/deep")):
        sparse_file(models / place / f"{number}.safetensors", *TRANSFORMER)
    (models / "diffusion_models" / "linked").symlink_to(tmp_path / "disk")
    sparse_file(models / "diffusion_models" / ".hidden" / "no.safetensors", *TRANSFORMER)
    assert [model.path.name[0] for model in find_models({}, tmp_path)] == ["2", "0", "1"]


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
        ("- no sections", []),
        ("", []),
    ],
)
def test_extra_model_paths_are_read_as_yaml(text: str, sections: list[dict[str, list[str]]]) -> None:
    read = extra_model_paths(text)
    assert [{key: paths for key, paths in section.items() if paths} for section in read] == sections


@pytest.mark.parametrize(
    "text", ["a: [", "a:\n\tb: c", "\0", "a: 2020-99-99", "? {a: b}\n: c", "[" * 5000, "!!python/name:os.system"]
)
def test_extra_model_paths_that_are_not_yaml_are_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadFile, match="not YAML"):
        extra_model_paths(text)
    comfyui(tmp_path / "ComfyUI")
    write(tmp_path / "ComfyUI" / "extra_model_paths.yaml", text)
    (problem,) = (one.report.problems for one in listing({}, tmp_path, [], []) if one.report.role is None)
    assert "extra_model_paths.yaml is left out: it is not YAML" in problem[0]
    assert [model.complete for model in find_models({}, tmp_path)] == [True]


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
