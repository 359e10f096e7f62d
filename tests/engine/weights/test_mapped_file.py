"""Tensors as views of a mapped file: the library's own, wherever they lie, and of files larger than the memory."""

from __future__ import annotations

import json
import mmap
import struct
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from qied.engine.weights.mapped_file import MappedFile
from qied.resources import builtin_model_folder
from qied.weights.header import read_header
from tools.sparse_checkpoint import sparse_file


def mapped(path: Path) -> MappedFile:
    return MappedFile(path, read_header(path))


@pytest.mark.parametrize("part", ["vae/diffusion_pytorch_model", "text_encoder/model"])
def test_tensors_are_those_that_the_library_reads(part: str) -> None:
    path = builtin_model_folder() / f"{part}.safetensors"
    file = mapped(path)
    for name, tensor in load_file(path).items():
        assert torch.equal(file.tensor(name), tensor)


def test_every_type_and_shape_comes_as_it_was_saved(tmp_path: Path) -> None:
    types = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn)
    tensors = {str(dtype): torch.randn(3, 5).to(dtype) for dtype in types}
    tensors |= {"none": torch.zeros(0, 4), "one": torch.tensor(2.5), "byte": torch.ones(1).to(torch.float8_e4m3fn)}
    save_file(tensors, tmp_path / "a.safetensors")
    file = mapped(tmp_path / "a.safetensors")
    for name, tensor in tensors.items():
        found = file.tensor(name)
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found.double(), tensor.double())


@pytest.mark.parametrize("blanks", range(4))
def test_data_that_lies_at_odd_places_is_read_all_the_same(tmp_path: Path, blanks: int) -> None:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    text = json.dumps({"a": entry}).encode() + b" " * blanks
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + struct.pack("<2f", 1.5, -2.0))
    assert mapped(tmp_path / "a.safetensors").tensor("a").tolist() == [1.5, -2.0]


def test_what_is_written_to_a_view_does_not_reach_the_file(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1000)}, tmp_path / "a.safetensors")
    mapped(tmp_path / "a.safetensors").tensor("a").zero_()
    assert mapped(tmp_path / "a.safetensors").tensor("a").sum() == 1000


def test_a_view_outlives_its_file_object_and_its_name(tmp_path: Path) -> None:
    save_file({"a": torch.arange(5.0)}, tmp_path / "a.safetensors")
    tensor = mapped(tmp_path / "a.safetensors").tensor("a")
    (tmp_path / "a.safetensors").unlink()
    assert tensor.tolist() == [0, 1, 2, 3, 4]


def test_a_file_larger_than_the_memory_can_be_mapped(tmp_path: Path) -> None:
    rows = 2 * (psutil.virtual_memory().total + psutil.swap_memory().total) // 2_000_000
    path = sparse_file(tmp_path / "a.safetensors", {"a": ("BF16", (rows, 1_000_000)), "b": ("BF16", (3,))}, {})
    file = mapped(path)
    assert file.tensor("b").tolist() == [0, 0, 0]
    assert not file.tensor("a")[-1].any()


def test_where_no_private_mapping_is_to_be_had_a_read_only_one_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file({"a": torch.arange(5.0)}, tmp_path / "a.safetensors")
    original = mmap.mmap

    def strict(descriptor: int, length: int, **options: int) -> mmap.mmap:
        if "flags" in options:
            raise OSError(12, "Cannot allocate memory")
        return original(descriptor, length, **options)

    monkeypatch.setattr(mmap, "mmap", strict)
    assert mapped(tmp_path / "a.safetensors").tensor("a").tolist() == [0, 1, 2, 3, 4]
