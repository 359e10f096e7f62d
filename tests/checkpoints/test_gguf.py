"""GGUF files as parts of a model: what they are, which go together, and what is said where one is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qied_client.errors import ConfigError, ModelNotFound, ModelUnsupported

from qied.checkpoints.expected import expected_shapes
from qied.checkpoints.inspect import inspect
from qied.checkpoints.part_file import read_part
from qied.config import ModelConfig
from qied.planning.profiles.model_profile import shipped_profiles
from qied.serving.model import ServedModel, locate_model
from qied.weights.problems import BadFile
from tests.checkpoints.files import comfyui, write_text_encoder
from tests.checkpoints.gguf_model import (
    comfyui_gguf,
    language_name,
    write_encoder_gguf,
    write_tower,
    write_transformer_gguf,
)
from tests.checkpoints.sparse_files import REAL
from tests.weights.gguf_files import KINDS, write_gguf
from tools.sparse_checkpoint import sparse_gguf

TOWER = "mmproj-BF16.gguf"


@pytest.fixture
def located(tmp_path: Path):
    def locate(path: Path | str, **fields: object) -> ServedModel:
        return locate_model(ModelConfig.model_validate({"path": str(path), "version": "2511", **fields}), {}, tmp_path)

    return locate


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", *KINDS])
def test_a_transformers_quantisation_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "qwen-image-edit-2511.gguf"
    write_transformer_gguf(path, kind, marked=True)
    found = inspect(path)
    assert found.precision == {"F32": "fp32", "F16": "fp16"}.get(kind, kind.lower())
    assert (found.role, found.layout, found.model, found.problems) == ("transformer", "gguf", "builtin", ())


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_one_that_does_not_say_so_may_be_2509(tmp_path: Path, prefix: str, located) -> None:
    path = tmp_path / "qwen-image-edit-2511-Q8_0.gguf"
    write_transformer_gguf(path, prefix=prefix)
    found = inspect(path)
    assert (found.role, found.model) == ("transformer", None)
    problem = found.problems[0]
    assert "2509 or 2511" in problem and "--model-version 2511" in problem and "By its name it is 2511" in problem
    with pytest.raises(ModelUnsupported, match="By its name it is 2511, which proves nothing.* 2509 or 2511"):
        located(path, version="")


def test_the_halves_of_a_text_encoder_are_recognised_and_go_together(tmp_path: Path) -> None:
    path, _ = write_encoder_gguf(tmp_path, "Q4_1")
    for file, precision in ((path, "q4_1"), (tmp_path / TOWER, "bf16")):
        found = inspect(file)
        assert (found.role, found.layout, found.precision) == ("text_encoder", "gguf", precision)
        assert (found.model, found.problems) == ("builtin", ())


def test_names_of_the_halves_are_the_models_own(tmp_path: Path) -> None:
    path, _ = write_encoder_gguf(tmp_path)
    names = {name for file in (path, tmp_path / TOWER) for name in read_part(file).tensors}
    assert names == set(expected_shapes(shipped_profiles()["builtin"], "text_encoder"))


def test_a_language_model_without_its_tower_says_what_it_lacks(tmp_path: Path, located) -> None:
    path, _ = write_encoder_gguf(tmp_path, tower=None)
    problem = inspect(path).problems[0]
    assert "only the language half" in problem and "mmproj" in problem and "Qwen2.5-VL-7B-Instruct" in problem
    transformer = comfyui(tmp_path / "ui")
    with pytest.raises(ConfigError, match=r"model.text_encoder: .*only the language half") as caught:
        located(transformer, text_encoder=str(path))
    assert "mmproj" in caught.value.remedy
    write_tower(tmp_path / TOWER, "BF16")
    assert located(transformer, text_encoder=str(path)).checkpoint().text_encoder == (str(path), str(tmp_path / TOWER))
    with pytest.raises(ConfigError, match="only the vision tower") as caught:
        located(transformer, text_encoder=str(tmp_path / TOWER))
    assert "language model" in caught.value.remedy


def test_in_comfyuis_folders_both_halves_are_found(tmp_path: Path, located) -> None:
    path = comfyui_gguf(tmp_path / "ui")
    folder = tmp_path / "ui" / "models" / "text_encoders"
    language = folder / "Qwen2.5-VL-7B-Instruct-Q8_0.gguf"
    files = located(path).checkpoint()
    assert files.text_encoder == (str(language), str(folder / TOWER))
    assert located(tmp_path / "ui").origin == path
    (folder / TOWER).unlink()
    with pytest.raises(ModelNotFound, match="Qwen2.5-VL-7B-Instruct-Q8_0.gguf cannot be used: it is only the language"):
        located(path)


def test_of_several_towers_the_one_named_alike_is_taken_else_the_most_exact(tmp_path: Path, located) -> None:
    path, _ = write_encoder_gguf(tmp_path, name="mine")
    for kind in ("F16", "F32", "Q8_0"):
        write_tower(tmp_path / f"mmproj-{kind}.gguf", kind)
    transformer = comfyui(tmp_path / "ui")

    def tower() -> str:
        return Path(located(transformer, text_encoder=str(path)).checkpoint().text_encoder[1]).name

    assert tower() == TOWER
    (tmp_path / TOWER).unlink()
    assert tower() == "mmproj-F32.gguf"
    write_tower(tmp_path / "mmproj-mine-Q8_0.gguf", "Q8_0")
    assert tower() == "mmproj-mine-Q8_0.gguf"


def test_with_a_quantised_transformer_the_encoder_of_its_kind_is_taken(tmp_path: Path, located) -> None:
    path = comfyui_gguf(tmp_path / "ui")
    folder = tmp_path / "ui" / "models" / "text_encoders"
    for flavour in ("bf16", "fp8_scaled"):
        write_text_encoder(folder / f"a_{flavour}.safetensors", flavour)
    assert located(path).checkpoint().text_encoder[0].endswith(".gguf")
    (folder / TOWER).unlink()
    assert located(path).checkpoint().text_encoder[0].endswith("a_fp8_scaled.safetensors")
    dense = comfyui(tmp_path / "dense")
    write_encoder_gguf(tmp_path / "dense" / "models" / "text_encoders")
    assert located(dense).checkpoint().text_encoder[0].endswith("small_encoder_bf16.safetensors")


def test_other_language_models_are_refused_by_their_architecture(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", {"blk.0.attn_q.weight": ("F32", np.zeros((8, 8), np.float32))}, "llama")
    assert "a language model that calls itself 'llama'; Qwen2.5-VL should say qwen2vl" in inspect(path).problems[0]
    with pytest.raises(BadFile) as caught:
        read_part(path)
    assert "Qwen2.5-VL-7B" in caught.value.remedy


def test_a_tower_that_lacks_a_piece_is_refused_by_its_name(tmp_path: Path) -> None:
    zeros = np.zeros((96, 96), np.float32)
    path = write_gguf(tmp_path / "m.gguf", {f"v.blk.0.attn_{one}.weight": ("F32", zeros) for one in "qv"}, "clip")
    assert "it lacks 'attn_k', a piece of 'visual.blocks.0.attn.qkv.weight'" in str(inspect(path).problems).lower()
    uneven = {f"v.blk.0.attn_{one}.weight": ("F32", zeros[:rows]) for one, rows in (("q", 96), ("k", 32), ("v", 96))}
    write_gguf(path, uneven, "clip")
    assert "have the shapes [32, 96], [96, 96]" in inspect(path).problems[0]


def test_headers_of_full_size_are_read_without_their_data(tmp_path: Path) -> None:
    shapes = expected_shapes(shipped_profiles()[REAL], "transformer")
    kinds = {name: "Q8_0" if len(shape) == 2 and shape[1] % 32 == 0 else "F32" for name, shape in shapes.items()}
    path = sparse_gguf(
        tmp_path / "q.gguf", {name: (kinds[name], shape) for name, shape in shapes.items()}, "qwen_image"
    )
    found = inspect(path)
    assert (found.role, found.precision, found.layout) == ("transformer", "q8_0", "gguf")
    assert "2509 or 2511" in found.problems[0]
    assert found.bytes == pytest.approx(21.7e9, rel=0.01) and path.stat().st_blocks * 512 < 4e6


def test_a_full_sized_text_encoder_with_its_vocabulary_is_read(tmp_path: Path) -> None:
    shapes = expected_shapes(shipped_profiles()[REAL], "text_encoder")
    entries = {
        language_name(name): ("Q4_K" if len(shape) == 2 else "F32", shape)
        for name, shape in shapes.items()
        if name.startswith("language_model.")
    }
    words = [f"word{number}" for number in range(152064)]
    path = sparse_gguf(tmp_path / "vl.gguf", entries, "qwen2vl", words)
    found = inspect(path)
    assert (found.role, found.precision, found.model) == ("text_encoder", "q4_k", REAL)
    assert "mmproj" in found.problems[0]
