"""What `qied inspect` says of every layout and precision, and of files that are none or damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from qied.checkpoints.inspect import inspect, sentence
from qied.checkpoints.report import Report
from qied.resources import builtin_model_folder
from tests.checkpoints.files import (
    FLAVOURS,
    PRECISION,
    save,
    stored,
    write_text_encoder,
    write_transformer,
    write_vae,
)
from tests.weights.gguf_files import write_gguf

LORA_LAYOUTS = {
    "peft": "peft",
    "peft-model": "peft",
    "diffusers": "diffusers",
    "comfyui": "comfyui",
    "lightning": "lightx2v",
    "lightning-comfyui": "comfyui",
    "kohya": "kohya",
}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_transformers_precision_is_told_apart(tmp_path: Path, flavour: str) -> None:
    path = tmp_path / "small.safetensors"
    write_transformer(path, flavour)
    layout = "lightx2v" if flavour == "fp8_lightx2v" else "comfyui"
    size = path.stat().st_size
    precision = PRECISION[flavour]
    told = Report(path, "transformer", layout, precision, "builtin", None, size, (), "2511", "tensor")  # type: ignore[arg-type]
    assert inspect(path) == told


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model."])
def test_prefixes_are_of_no_consequence(tmp_path: Path, prefix: str) -> None:
    write_transformer(tmp_path / "small.safetensors", "fp8_comfy", prefix)
    found = inspect(tmp_path / "small.safetensors")
    assert (found.model, found.problems) == ("builtin", ())


def test_a_transformer_that_does_not_say_so_may_be_2509(tmp_path: Path) -> None:
    path = tmp_path / "qwen_image_edit_2511.safetensors"
    write_transformer(path, marked=False)
    found = inspect(path)
    assert (found.role, found.layout, found.model) == ("transformer", "diffusers", None)
    assert "2509 or 2511" in found.problems[0] and "model.version" in found.problems[0]


@pytest.mark.parametrize("flavour", ["bf16", "fp8_scaled", "fp8_plain"])
def test_text_encoders_are_recognised(tmp_path: Path, flavour: str) -> None:
    path = tmp_path / "encoder.safetensors"
    write_text_encoder(path, flavour)
    found = inspect(path)
    assert (found.role, found.layout, found.precision) == ("text_encoder", "comfyui", flavour)
    assert (found.model, found.problems) == ("builtin", ())
    write_text_encoder(path, flavour, old_names=False)
    assert inspect(path).layout == "diffusers"


@pytest.mark.parametrize(("wan", "layout"), [(True, "comfyui"), (False, "diffusers")])
def test_vaes_are_recognised(tmp_path: Path, wan: bool, layout: str) -> None:
    path = tmp_path / "vae.safetensors"
    write_vae(path, wan=wan)
    assert inspect(path) == Report(path, "vae", layout, "bf16", "builtin", None, path.stat().st_size)  # type: ignore[arg-type]


@pytest.mark.parametrize("style", LORA_LAYOUTS)
def test_loras_are_recognised(tmp_path: Path, style: str, write_lora) -> None:
    path = tmp_path / "style.safetensors"
    write_lora(path, style=style, alpha=2.0 if style in ("peft-model", "kohya", "lightning") else None)
    found = inspect(path)
    assert (found.role, found.layout, found.model) == ("lora", LORA_LAYOUTS[style], "builtin")
    assert (found.precision, found.lightning_steps, found.problems) == ("fp32", None, ())


BLOCK = "diffusion_model.transformer_blocks.0.attn.to_q"
KINDS = {
    "LoKr": {f"{BLOCK}.lokr_w1": (4, 4), f"{BLOCK}.lokr_w2": (64, 64)},
    "LoHa": {f"{BLOCK}.hada_w{n}_{side}": (256, 2) if side == "a" else (2, 256) for n in (1, 2) for side in "ab"},
    "full difference": {f"{BLOCK}.diff": (256, 256)},
    "bias": {f"{BLOCK}.diff_b": (256,)},
    "LoRA + full difference": {
        **{f"{BLOCK}.lora_down.weight": (2, 256), f"{BLOCK}.lora_up.weight": (256, 2)},
        "diffusion_model.img_in.diff": (256, 64),
    },
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spelling", ["dotted", "flat"])
def test_each_kind_of_lora_is_told_for_what_it_is(tmp_path: Path, kind: str, spelling: str) -> None:
    path = tmp_path / "style.safetensors"
    names = {name: name if spelling == "dotted" else lycoris(name) for name in KINDS[kind]}
    save(path, {names[name]: torch.zeros(shape) for name, shape in KINDS[kind].items()}, {})
    found = inspect(path)
    assert (found.role, found.method, found.model, found.problems) == ("lora", kind, "builtin", ())


def lycoris(name: str) -> str:
    """A name in the way of LyCORIS, with underscores up to the part."""
    for part in (".lokr_", ".hada_", ".lora_", ".diff"):
        path, found, end = name.partition(part)
        if found:
            return "lycoris_" + path.removeprefix("diffusion_model.").replace(".", "_") + found + end
    raise AssertionError(name)


@pytest.mark.parametrize("end", ["lora_magnitude_vector", "dora_scale", "magnitude"])
def test_dora_is_refused_once_and_by_its_name(tmp_path: Path, end: str) -> None:
    pair = {f"{BLOCK}.lora_A.weight": torch.zeros(2, 256), f"{BLOCK}.lora_B.weight": torch.zeros(256, 2)}
    save(tmp_path / "style.safetensors", {**pair, f"{BLOCK}.{end}": torch.zeros(256)}, {})
    found = inspect(tmp_path / "style.safetensors")
    assert (found.role, found.method) == ("lora", "DoRA")
    (problem,) = found.problems
    assert "it was trained with DoRA" in problem


def test_what_of_a_lora_is_not_used_is_a_note_and_no_problem(tmp_path: Path) -> None:
    pair = {f"{BLOCK}.lora_A.weight": torch.zeros(2, 256), f"{BLOCK}.lora_B.weight": torch.zeros(256, 2)}
    save(tmp_path / "style.safetensors", {**pair, "lora_te1_model_layers_0_mlp_up_proj.alpha": torch.tensor(1.0)}, {})
    found = inspect(tmp_path / "style.safetensors")
    assert found.model == "builtin" and found.problems == ()
    assert "text encoder is not used" in found.notes[0]


@pytest.mark.parametrize(
    ("name", "marked", "version", "shown_by"),
    [
        ("a", True, "2511", "tensor"),
        ("qwen_image_edit_2509_marked", True, "2511", "tensor"),
        ("qwen_image_edit_2509", False, "2509", "name"),
        ("qwen_image_edit_2511", False, "2511", "name"),
        ("a", False, None, None),
    ],
)
def test_which_of_the_models_a_transformer_is_has_its_evidence(
    tmp_path: Path, name: str, marked: bool, version: str | None, shown_by: str | None
) -> None:
    write_transformer(tmp_path / f"{name}.safetensors", marked=marked)
    found = inspect(tmp_path / f"{name}.safetensors", "2511")
    assert (found.version, found.shown_by) == (version, shown_by)
    assert (found.model == "builtin") is (found.problems == ()) is (version in ("2511", None))


def test_a_tensors_name_at_the_beginning_of_a_sentence_stays_as_it_is() -> None:
    assert sentence("transformer_blocks.0.attn holds I8") == "transformer_blocks.0.attn holds I8."
    assert sentence("it is cut off") == "It is cut off."


def test_lightning_is_told_by_the_files_name(tmp_path: Path, write_lora) -> None:
    lora = tmp_path / "Qwen-Image-Edit-2511-Lightning-8steps-V1.0-bf16.safetensors"
    write_lora(lora, style="lightning", alpha=4.0)
    assert inspect(lora).lightning_steps == 8
    fused = tmp_path / "qwen_image_edit_2511_fp8_e4m3fn_scaled_lightning_4steps_v1.0.safetensors"
    write_transformer(fused, "fp8_lightx2v")
    assert (inspect(fused).role, inspect(fused).lightning_steps) == ("transformer", 4)


def test_a_lora_for_another_model_says_what_does_not_fit_each_model(tmp_path: Path) -> None:
    pair = {"lora_A": torch.zeros(4, 64), "lora_B": torch.zeros(64, 4)}
    tensors = {f"transformer_blocks.0.attn.to_q.{name}.weight": tensor for name, tensor in pair.items()}
    save(tmp_path / "other.safetensors", tensors, {})
    found = inspect(tmp_path / "other.safetensors")
    assert (found.role, found.model) == ("lora", None)
    assert len(found.problems) == 2, "one for each size of models"
    assert "should be [rank, 3072]" in " ".join(found.problems)


def test_the_built_in_model_is_a_pipeline_without_problems() -> None:
    found = inspect(builtin_model_folder())
    assert (found.role, found.layout, found.precision) == ("pipeline", "diffusers", "bf16")
    assert (found.model, found.problems) == ("builtin", ())
    assert found.bytes == sum(file.stat().st_size for file in builtin_model_folder().rglob("*.safetensors"))


def test_a_shard_need_not_have_what_others_hold() -> None:
    shard = builtin_model_folder() / "transformer" / "diffusion_pytorch_model-00002-of-00002.safetensors"
    assert (inspect(shard).model, inspect(shard).problems) == ("builtin", ())


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(builtin_model_folder(), tmp_path / "model")


def set_in(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_what_a_folder_lacks_is_named(copy: Path) -> None:
    (copy / "transformer" / "diffusion_pytorch_model-00001-of-00002.safetensors").unlink()
    (copy / "scheduler" / "scheduler_config.json").unlink()
    problems = " ".join(inspect(copy).problems)
    assert "diffusion_pytorch_model-00001-of-00002.safetensors is missing" in problems
    assert "scheduler/scheduler_config.json is missing" in problems
    assert "transformer: 105 tensors are missing: " in problems


def test_a_folder_without_zero_cond_t_is_not_2511(copy: Path) -> None:
    set_in(copy / "transformer" / "config.json", zero_cond_t=False)
    found = inspect(copy)
    assert found.model is None and "zero_cond_t" in found.problems[0]


@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        ("QwenImage21Pipeline", "Qwen-Image-2.1"),
        ("QwenImageLayeredPipeline", "Qwen-Image-Layered"),
        ("FluxPipeline", "Flux"),
    ],
)
def test_folders_of_other_models_are_named(copy: Path, pipeline: str, said: str) -> None:
    set_in(copy / "model_index.json", _class_name=pipeline)
    (problem,) = inspect(copy).problems
    assert said in problem


def test_a_folder_that_is_no_model_and_a_path_to_nothing(tmp_path: Path) -> None:
    assert "without model_index.json" in inspect(tmp_path).problems[0]
    assert "cannot be read" in inspect(tmp_path / "none").problems[0]


def drop(name: str):
    return lambda tensors: tensors.pop(name)


def put(name: str, tensor: Tensor):
    return lambda tensors: tensors.update({name: tensor})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop("img_in.bias"), "1 tensor is missing: 'img_in.bias'"),
        (put("img_in.bias", torch.zeros(3)), "'img_in.bias' is [3], but should be [256]"),
        (put("extra.weight", torch.zeros(3)), "1 tensor does not belong to the model: 'extra.weight'"),
        (put("txt_in.text_norm.weight", torch.zeros(3)), "Qwen-Image-2.1"),
        (
            put("transformer_blocks.6.attn.norm_q.weight", torch.zeros(64)),
            "belong to the model: 'transformer_blo",
        ),
        (put("img_in.bias", torch.zeros(256, dtype=torch.int32)), "holds I32"),
        (put("transformer_blocks.0.attn.to_q.weight", torch.zeros(256, 256).to(torch.float8_e5m2)), "float8_e5m2"),
        (put("transformer_blocks.0.attn.to_q.weight", torch.zeros(256, 256, dtype=torch.int8)), "int8 without scales"),
    ],
)
def test_what_is_wrong_with_a_transformer_is_told_by_the_tensors_name(tmp_path: Path, change, said: str) -> None:
    write_transformer(tmp_path / "small.safetensors", change=change)
    found = inspect(tmp_path / "small.safetensors")
    assert found.model is None
    assert said in " ".join(found.problems)


def test_a_text_encoder_of_another_kind_fits_no_model(tmp_path: Path) -> None:
    tensors = stored("text_encoder")
    tensors["model.language_model.layers.0.self_attn.q_norm.weight"] = torch.zeros(32)
    save(tmp_path / "qwen3.safetensors", tensors, {})
    found = inspect(tmp_path / "qwen3.safetensors")
    assert found.role == "text_encoder" and "q_norm" in found.problems[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("double_blocks.0.img_attn.norm.key_norm.scale", "another model, Flux"),
        ("blocks.0.cross_attn.norm_q.weight", "another model, Wan"),
        ("something.weight", "not a part of Qwen-Image-Edit"),
    ],
)
def test_files_of_other_models_are_no_part(tmp_path: Path, name: str, said: str) -> None:
    save_file({name: torch.zeros(3)}, tmp_path / "a.safetensors")
    found = inspect(tmp_path / "a.safetensors")
    assert found.role is None and said in found.problems[0]


@pytest.mark.parametrize(
    "names",
    [
        ("encoder.middle.0", "decoder.conv1.weight"),
        ("encoder.downsamples.0", "decoder.conv1.weight"),
        ("decoder.upsamples.3", "decoder.conv1.weight"),
        ("decoder.upsamples.\u00b2.residual.0.gamma", "decoder.conv1.weight"),
        (f"decoder.upsamples.{'9' * 5000}.residual", "decoder.conv1.weight"),
        ("transformer_blocks.0.img_mlp.scaled_fp8",),
        ("visual.blocks.", "model.layers.0.self_attn."),
    ],
)
def test_odd_names_are_problems_and_no_crashes(tmp_path: Path, names: tuple[str, ...]) -> None:
    save_file({name: torch.zeros(3) for name in names}, tmp_path / "a.safetensors")
    assert inspect(tmp_path / "a.safetensors").problems


SEGMENTS = (
    "encoder",
    "decoder",
    "middle",
    "upsamples",
    "downsamples",
    "residual",
    "head",
    "conv1",
    "mid_block",
    "0",
    "3",
)
SEGMENTS += (
    "model",
    "visual",
    "blocks",
    "layers",
    "self_attn",
    "transformer_blocks",
    "img_mlp",
    "lora_A",
    "weight",
    "",
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(names=st.sets(st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=6).map(".".join), max_size=5))
def test_any_names_are_told_apart_without_a_crash(tmp_path: Path, names: set[str]) -> None:
    save_file({name: torch.zeros(2) for name in names if name}, tmp_path / "a.safetensors")
    inspect(tmp_path / "a.safetensors")


def test_a_configuration_beside_a_single_file_does_not_say_what_it_is(tmp_path: Path) -> None:
    write_transformer(tmp_path / "some_edit_model.safetensors", marked=False)
    (tmp_path / "config.json").write_text('{"zero_cond_t": true}')
    assert inspect(tmp_path / "some_edit_model.safetensors").model is None
    (tmp_path / "some_edit_model.safetensors").rename(tmp_path / "diffusion_pytorch_model.safetensors")
    assert inspect(tmp_path / "diffusion_pytorch_model.safetensors").model == "builtin"


def test_what_a_file_says_does_not_reach_a_terminal_as_it_is(tmp_path: Path) -> None:
    write_transformer(tmp_path / "a.safetensors", change=put("\x1b[31mred", torch.zeros(3)))
    assert "\x1b" not in " ".join(inspect(tmp_path / "a.safetensors").problems)


def test_a_cut_file_is_told(tmp_path: Path) -> None:
    write_vae(tmp_path / "vae.safetensors")
    whole = (tmp_path / "vae.safetensors").read_bytes()
    (tmp_path / "vae.safetensors").write_bytes(whole[:-5])
    assert "truncated at" in inspect(tmp_path / "vae.safetensors").problems[0]


def test_looking_reads_no_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "small.safetensors"
    write_transformer(path, "fp8_scaled")
    expected = inspect(path)
    data_start = int.from_bytes(path.read_bytes()[:8], "little") + 8
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.truncate(data_start)
        file.truncate(size)  # sparse: every number is zero now
    assert inspect(path) == expected
    assert not any(tensor.float().any() for tensor in load_file(path).values())


@pytest.mark.parametrize(
    ("tensors", "word"),
    [
        ({"encoder.conv_in.weight": (128, 3, 3, 3), "decoder.up.0.block.0.conv1.weight": (8, 8, 3, 3)}, "VAE"),
        ({"encoder.conv_in.weight": (128, 3, 3, 3), "quant_conv.weight": (8, 8, 1, 1)}, "VAE"),
        ({"encoder.conv1.weight": (160, 12, 3, 3, 3), "conv1.weight": (96, 96, 1, 1, 1)}, "VAE"),
        ({"model.layers.0.self_attn.q_proj.weight": (64, 64), "model.norm.weight": (64,)}, "text encoder"),
    ],
)
def test_a_part_of_another_model_is_no_damaged_part_of_this_one(
    tmp_path: Path, tensors: dict[str, tuple[int, ...]], word: str
) -> None:
    save(tmp_path / "a.safetensors", {name: torch.zeros(shape) for name, shape in tensors.items()}, {})
    (problem,) = inspect(tmp_path / "a.safetensors").problems
    assert problem.startswith(f"It is the {word} of another model, by its tensors: ")


@pytest.mark.parametrize(
    ("name", "tensors", "said"),
    [
        ("svdq-int4_r32.safetensors", {"transformer_blocks.0.attn.to_qkv": ("qweight", "wscales")}, "Nunchaku"),
        ("encoder-awq.safetensors", {"model.layers.0.self_attn.q_proj": ("qweight", "qzeros", "scales")}, "AWQ"),
    ],
)
def test_other_quantisations_are_named_whatever_else_is_in_the_file(
    tmp_path: Path, name: str, tensors: dict[str, tuple[str, ...]], said: str
) -> None:
    found = {f"{layer}.{end}": torch.zeros(4, 4, dtype=torch.int32) for layer, ends in tensors.items() for end in ends}
    save(tmp_path / name, found, {})
    (problem,) = inspect(tmp_path / name).problems
    assert said in problem and problem.endswith("or any file in FP8 or BF16.")


@pytest.mark.parametrize(("architecture", "said"), [("wan", "of the architecture 'wan'"), ("qwen_image", "not a part")])
def test_a_gguf_of_another_architecture_says_which(tmp_path: Path, architecture: str, said: str) -> None:
    tensors = {"blocks.0.cross_attn.q.weight": ("F32", np.zeros((4, 4), np.float32))}
    (problem,) = inspect(write_gguf(tmp_path / "a.gguf", tensors, architecture)).problems
    assert said in problem and "qied pull qwen-image-edit-2511" in problem


def test_whatever_cannot_be_read_comes_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "empty.safetensors").touch()
    for name, said in (("folder", "Name a file"), ("empty", "Download the file again.")):
        (problem,) = inspect(tmp_path / f"{name}.safetensors").problems
        assert said in problem
