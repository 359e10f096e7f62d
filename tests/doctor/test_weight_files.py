"""What a weight file's header, length and place tell."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qied.doctor.weight_files import damage, known_hash, weight_files
from qied.planning.profiles.model_profile import shipped_profiles
from qied.resources import builtin_model_folder
from qied.serving.model import ServedModel


def safetensors(data=b"\0" * 8, **tensors):
    whole = {"a": {"dtype": "F32", "shape": [len(data) // 4], "data_offsets": [0, len(data)]}}
    header = json.dumps(tensors or whole).encode()
    return len(header).to_bytes(8, "little") + header + data


def test_real_files_are_sound():
    files = weight_files(ServedModel(builtin_model_folder(), shipped_profiles()["builtin"], "builtin"))
    assert len(files) == 4
    assert [damage(file) for file in files] == [None] * 4


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty"),
        (b"\x10\0\0", "truncated"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (safetensors()[:-1], "truncated at 'a': 7 bytes of data are there"),
        (safetensors() + b"\0", "longer than its header says, by 1 bytes"),
        (b"\x02\0\0\0\0\0\0\0xx", "its header is not JSON"),
        (b"\x02\0\0\0\0\0\0\0[]", "its header is not a JSON object"),
        (safetensors(a={"dtype": "F32"}), "header is damaged"),
        (safetensors(a={"data_offsets": [4, 0]}), "header is damaged"),
        (safetensors(a={"data_offsets": ["x", "y"]}), "header is damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(len(value)),
)
def test_damage_is_told_apart(tmp_path, content, problem):
    file = tmp_path / "w.safetensors"
    file.write_bytes(content)
    assert problem in damage(file)


def test_a_file_that_is_not_there_cannot_be_read(tmp_path):
    assert "cannot be read" in damage(tmp_path / "none.safetensors")


@given(cut=st.integers(0, 200))
def test_no_proper_beginning_of_a_file_is_sound(tmp_path_factory, cut):
    whole = safetensors(b"\0" * 64)
    file = tmp_path_factory.mktemp("cut") / "w.safetensors"
    file.write_bytes(whole[:cut])
    assert (damage(file) is None) == (cut >= len(whole))


def test_a_link_into_the_hub_cache_has_its_hash_as_name(tmp_path):
    digest = hashlib.sha256(b"x").hexdigest()
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / digest).write_bytes(b"x")
    link = tmp_path / "snapshots" / "1" / "vae" / "w.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "blobs" / digest)
    assert known_hash(link, tmp_path / "snapshots" / "1") == digest


def test_a_download_into_a_folder_has_its_hash_beside_it(tmp_path):
    digest = hashlib.sha256(b"x").hexdigest()
    file = tmp_path / "vae" / "w.safetensors"
    note = tmp_path / ".cache" / "huggingface" / "download" / "vae" / "w.safetensors.metadata"
    assert known_hash(file, tmp_path) is None
    note.parent.mkdir(parents=True)
    note.write_text(f"{'c' * 40}\n{digest}\n1750000000.0\n")
    assert known_hash(file, tmp_path) == digest
    note.write_text(f"{'c' * 40}\n{'d' * 40}\n1750000000.0\n")  # a small file's: git's own hash
    assert known_hash(file, tmp_path) is None
