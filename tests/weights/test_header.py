"""The header of a safetensors file: what is read, what is refused, and that nothing makes the reader fall."""

from __future__ import annotations

import json
import os
import re
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from qied.resources import builtin_loras_folder, builtin_model_folder
from qied.weights.header import MAX_HEADER_BYTES, Header, TensorEntry, read_header
from qied.weights.problems import BadFile

SHIPPED = [*builtin_model_folder().rglob("*.safetensors"), *builtin_loras_folder().glob("*.safetensors")]


def file_of(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(begin: int = 0, end: int = 8, shape: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def refusal(tmp_path: Path, content: bytes, name: str = "a.safetensors") -> str:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadFile) as caught:
        read_header(path)
    assert caught.value.remedy
    return caught.value.what


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_names_shapes_and_places_are_those_that_the_library_reads(path: Path) -> None:
    header = read_header(path)
    with safe_open(path, framework="pt") as file:
        assert set(header.tensors) == set(file.keys())
        assert dict(header.metadata) == (file.metadata() or {})
        for name, found in header.tensors.items():
            assert list(found.shape) == file.get_slice(name).get_shape()
            assert found.dtype == file.get_slice(name).get_dtype()
        name = min(header.tensors, key=lambda one: header.tensors[one].nbytes)
        tensor = file.get_tensor(name)
    place = header.tensors[name]
    content = path.read_bytes()[header.data_start + place.begin : header.data_start + place.end]
    assert content == tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def test_empty_tensors_and_every_type_have_their_place(tmp_path: Path) -> None:
    tensors = {
        "none": torch.zeros(0),
        "eight": torch.zeros(3).to(torch.float8_e4m3fn),
        "scalar": torch.tensor(1.0),
        "whole": torch.zeros(2, 3, dtype=torch.int64),
        "yes": torch.ones(5, dtype=torch.bool),
    }
    save_file(tensors, tmp_path / "a.safetensors", {"of": "me"})
    header = read_header(tmp_path / "a.safetensors")
    assert header.shapes == {"none": (0,), "eight": (3,), "scalar": (), "whole": (2, 3), "yes": (5,)}
    assert header.metadata == {"of": "me"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\x10\0\0", "is truncated: it has 3 bytes"),
        (struct.pack("<Q", 100) + b"{}", "its header should have 100 bytes, but only 2 follow"),
        (struct.pack("<Q", (1 << 64) - 1) + b"{}", "its header should have"),
        (struct.pack("<Q", MAX_HEADER_BYTES + 1) + bytes(MAX_HEADER_BYTES + 1), "its header has"),
        (file_of(b"[1]"), "not a JSON object"),
        (file_of(b"{{{{"), "not JSON"),
        (file_of(b"[" * 60_000), "not JSON"),
        (file_of(b'{"a": ' + b"9" * 5000 + b"}"), "not JSON"),
        (file_of(b'{"a": 1, "a": 2}'), "has 'a' twice"),
        (file_of({"a": 12}), "damaged at 'a'"),
        (file_of({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)), "damaged at 'a'"),
        (file_of({"a": entry(shape=[2.0])}, bytes(8)), "damaged at 'a'"),
        (file_of({"a": entry(shape=[True, 2])}, bytes(8)), "damaged at 'a'"),
        (file_of({"a": entry(shape=[-2])}, bytes(8)), "damaged at 'a'"),
        (file_of({"a": entry(shape=[1] * 9)}, bytes(4)), "damaged at 'a'"),
        (file_of({"a": entry(begin=8, end=0)}, bytes(8)), "damaged at 'a'"),
        (file_of({"a": entry(shape=[1 << 60])}, bytes(8)), "damaged at 'a'"),
        (file_of({"a": entry(shape=[3])}, bytes(8)), r"\[3\] of F32 in 8 bytes"),
        (file_of({"a": entry(dtype="F33")}, bytes(8)), "'a' is of the unknown type 'F33'"),
        (file_of({"a": entry(dtype="F4", shape=[3], end=2)}, bytes(2)), r"\[3\] of F4 in 2 bytes"),
        (file_of({"a": entry(), "b": entry(4, 12)}, bytes(12)), "'b' overlaps 'a'"),
        (file_of({"a": entry(), "b": entry()}, bytes(8)), "overlaps"),
        (file_of({"a": entry(), "b": entry(12, 20)}, bytes(20)), "4 bytes before 'b' belong to no tensor"),
        (file_of({"a": entry()}, bytes(7)), "truncated at 'a': 7 bytes of data are there, but it ends at 8"),
        (file_of({"a": entry()}, bytes(9)), "longer than its header says, by 1 bytes"),
    ],
)
def test_a_damaged_header_is_told_by_the_tensors_name(tmp_path: Path, content: bytes, said: str) -> None:
    assert re.search(said, refusal(tmp_path, content))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.safetensors", b"GGUF\1\0\0\0" + bytes(100), "a GGUF file of version 1"),
        ("a.pt", b"PK\3\4" + bytes(100), "a pickle"),
        ("a.ckpt", b"\x80\2}q\0(X\5" + bytes(100), "a pickle"),
        ("a.bin", b"\x80\2\0\0\0\0\0\0" + bytes(1000), "a pickle"),
        ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        ("a.safetensors", b"<!DOCTYPE html><html>", "a web page"),
        ("a.safetensors", b"\n <HTML><head>", "a web page"),
        ("a.gguf", b"\xef\xbb\xbf<html>", "a web page"),
        ("a.safetensors", b'{"error":"Access to the model is restricted"}', "text, not weights"),
        ("a.safetensors", b'<?xml version="1.0"?><Error>', "text, not weights"),
        ("a.safetensors", b"404", "text, not weights"),
        ("a.safetensors", b"7z\xbc\xaf\x27\x1c\0\4", "a compressed archive"),
        ("a.safetensors", b"\x1f\x8b\x08\x08\x11\x22\x33\x44model", "a compressed archive"),
        ("a.ZIP", b"PK\3\4" + bytes(100), "a compressed archive"),
        ("a.safetensors", b"", "it is empty"),
        ("a.safetensors.part", b"", "a download that has not finished"),
        ("A.GGUF.CRDOWNLOAD", bytes(100), "a download that has not finished"),
        ("a.safetensors.incomplete", bytes(100), "a download that has not finished"),
    ],
)
def test_other_kinds_of_files_are_refused_by_their_name(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    assert said in refusal(tmp_path, content, name)


def test_a_file_that_looks_whole_but_is_still_downloaded_is_refused_until_it_is_done(tmp_path: Path) -> None:
    path, beside = tmp_path / "a.safetensors", tmp_path / "a.safetensors.aria2"
    path.write_bytes(file_of({"a": entry()}, bytes(8)))
    assert read_header(path).shapes == {"a": (2,)}
    beside.write_bytes(b"\0\1")
    with pytest.raises(BadFile, match=r"a\.safetensors\.aria2 lies next to it") as refused:
        read_header(path)
    assert refused.value.remedy == "Let the download finish, or start it again."
    beside.unlink()
    assert read_header(path).shapes == {"a": (2,)}
    (tmp_path / "a.safetensors.part").write_bytes(bytes(5))
    assert read_header(path).shapes == {"a": (2,)}, "of another download of the same name"
    path.write_bytes(b"")
    with pytest.raises(BadFile, match="has not finished"):
        read_header(path)


@pytest.mark.parametrize("length", [0x088B1F, 0x0A0D0A])
def test_a_header_whose_length_begins_like_another_format_is_read(tmp_path: Path, length: int) -> None:
    text = json.dumps({"a": entry()}).encode().ljust(length)
    (tmp_path / "a.safetensors").write_bytes(file_of(text, bytes(8)))
    assert read_header(tmp_path / "a.safetensors").shapes == {"a": (2,)}


def test_a_link_to_nothing_names_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").symlink_to("gone.safetensors")
    with pytest.raises(BadFile, match=r"a link to nothing, gone\.safetensors"):
        read_header(tmp_path / "a.safetensors")


def test_a_file_that_may_not_be_read_says_how_to_change_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a b.safetensors"
    path.write_bytes(file_of({"a": entry()}, bytes(8)))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadFile, match="Permission denied") as refused:
        read_header(path)
    assert f"chmod a+r '{path}'" in refused.value.remedy


def test_a_header_that_begins_like_a_pickle_is_read(tmp_path: Path) -> None:
    text = json.dumps({"a": entry()}).encode().ljust(0x280)
    (tmp_path / "a.safetensors").write_bytes(file_of(text, bytes(8)))
    assert read_header(tmp_path / "a.safetensors").shapes == {"a": (2,)}


def test_a_file_that_is_not_there_or_a_folder_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(BadFile, match="cannot be read"):
            read_header(path)


def test_a_file_that_was_read_is_read_again_once_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(file_of({"a": entry()}, bytes(8)))
    assert read_header(path) is read_header(path)
    path.write_bytes(file_of({"b": entry()}, bytes(8)))
    assert read_header(path).shapes == {"b": (2,)}


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadFile, match="it is not a file"):
        read_header(tmp_path / "pipe")


def attempt(path: Path, content: bytes) -> Header | None:
    path.write_bytes(content)
    try:
        return read_header(path)
    except BadFile:
        return None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    attempt(tmp_path / "a.safetensors", content)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "F8_E4M3", "F4", "BOOL", "F33"]) | json_values,
        "shape": st.lists(st.integers(0, 9), max_size=3) | json_values,
        "data_offsets": st.lists(st.integers(0, 64), min_size=2, max_size=2) | json_values,
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    header=st.dictionaries(st.sampled_from("abcd") | st.just("__metadata__"), entries | json_values), data=st.binary()
)
def test_a_header_that_is_read_is_one_that_the_library_reads(
    tmp_path: Path, header: dict[str, Any], data: bytes
) -> None:
    path = tmp_path / "a.safetensors"
    found = attempt(path, file_of(header, data))
    if found is None:
        return
    reached = 0
    for one in sorted(found.tensors.values(), key=lambda one: (one.begin, one.end)):
        assert one.begin == reached
        reached = one.end
    assert reached == len(data)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 400), value=st.integers(0, 255), cut=st.integers(0, 500))
def test_a_changed_byte_or_a_cut_never_gets_past_both_readers(tmp_path: Path, place: int, value: int, cut: int) -> None:
    whole = file_of({"a": entry(), "b": entry(8, 24, (4, 2), "BF16"), "__metadata__": {"x": "y"}}, bytes(range(24)))
    content = bytearray(whole)
    content[place % len(content)] = value
    path = tmp_path / "a.safetensors"
    found = attempt(path, bytes(content[: min(cut, len(content))]) if cut < 100 else bytes(content))
    if found is not None:
        try:
            with safe_open(path, framework="pt") as file:
                assert set(file.keys()) == set(found.tensors)
        except SafetensorError:
            # The library reads fewer types and no metadata but texts.
            assert bytes(content) != whole


def test_nothing_is_allocated_for_what_a_file_only_announces(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(file_of({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}))
    tracemalloc.start()
    try:
        with pytest.raises(BadFile, match="truncated"):
            read_header(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_an_entry_knows_its_bytes() -> None:
    assert TensorEntry("F32", (2,), 8, 16).nbytes == 8
