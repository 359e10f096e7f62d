"""The directory of a GGUF file: what is read, what is refused, and that nothing makes the reader fall."""

from __future__ import annotations

import re
import struct
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qied.weights import gguf_directory
from qied.weights.gguf_types import TYPES
from qied.weights.header import read_header
from qied.weights.problems import BadFile
from qied.weights.stored import precision_of, stored_tensors
from tests.weights.gguf_files import KINDS, random_blocks, write_gguf

RNG = np.random.default_rng(0)
F32, Q8_0 = 0, 8


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def info(name: str = "a", shape: tuple[int, ...] = (8,), kind: int = F32, begin: int = 0) -> bytes:
    sides = b"".join(struct.pack("<Q", side) for side in shape)
    return text(name) + struct.pack("<I", len(shape)) + sides + struct.pack("<IQ", kind, begin)


def value(key: str, kind: int, data: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + data


def noted(name: str, *shape: int, kind: int = 5) -> bytes:
    sides = b"".join(struct.pack("<i", side) for side in shape)
    return value(f"comfy.gguf.orig_shape.{name}", 9, struct.pack("<IQ", kind, len(shape)) + sides)


def file_of(
    *infos: bytes,
    values: tuple[bytes, ...] = (),
    data: bytes = b"",
    version: int = 3,
    counts: tuple[int, int] = (-1, -1),
) -> bytes:
    tensors, keys = (len(infos) if counts[0] < 0 else counts[0]), (len(values) if counts[1] < 0 else counts[1])
    head = b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + b"".join((*values, *infos))
    return head + bytes(-len(head) % 32) + data


def refusal(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "a.gguf"
    path.write_bytes(content)
    with pytest.raises(BadFile) as caught:
        read_header(path)
    assert caught.value.remedy
    return caught.value.what


def test_the_table_of_types_is_the_packages() -> None:
    package = {kind.value: (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {number: (kind.name, kind.numbers, kind.nbytes) for number, kind in TYPES.items()} == package


def test_names_shapes_types_and_places_are_those_that_the_package_reads(tmp_path: Path) -> None:
    tensors = {f"w.{kind}": (kind, random_blocks(kind, 3, 512, RNG)) for kind in KINDS}
    tensors["bias"] = ("F32", np.zeros(5, np.float32))
    tensors["deep"] = ("F16", np.zeros((2, 3, 4, 5), np.float16))
    path = write_gguf(tmp_path / "a.gguf", tensors, arrays={"words": ["a", "bc", ""], "numbers": [1, 2, 3]})
    header = read_header(path)
    assert (header.format, header.metadata["general.architecture"]) == ("gguf", "qwen_image")
    reader = gguf.GGUFReader(path)
    assert {tensor.name for tensor in reader.tensors} == set(header.tensors)
    for tensor in reader.tensors:
        found = header.tensors[tensor.name]
        assert found.shape == tuple(reversed(tensor.shape.tolist()))
        assert found.dtype == tensor.tensor_type.name
        assert (header.data_start + found.begin, found.nbytes) == (tensor.data_offset, tensor.n_bytes)


@pytest.mark.parametrize("kind", KINDS)
def test_the_precision_of_a_file_is_the_type_of_most_of_its_bytes(tmp_path: Path, kind: str) -> None:
    tensors = {
        "big": (kind, random_blocks(kind, 64, 512, RNG)),
        "small": ("BF16", np.zeros((2, 8), np.uint8)),
        "bias": ("F32", np.zeros(4000, np.float32)),
    }
    stored = stored_tensors(read_header(write_gguf(tmp_path / "a.gguf", tensors)))
    assert precision_of(stored) == kind.lower()
    assert (stored["small"].precision, stored["bias"].precision) == ("bf16", "fp32")


@pytest.mark.parametrize("kind", sorted({kind.name for kind in TYPES.values() if kind.numbers > 1} - set(KINDS)))
def test_other_quantisations_are_refused_by_name_with_those_that_work(tmp_path: Path, kind: str) -> None:
    number = next(number for number, found in TYPES.items() if found.name == kind)
    size = 256 // TYPES[number].numbers * TYPES[number].nbytes
    (tmp_path / "a.gguf").write_bytes(file_of(info("w", (256,), number), data=bytes(-(-size // 32) * 32)))
    with pytest.raises(BadFile, match=f"'w' is stored as {kind}, a GGUF type that qied does not support") as caught:
        stored_tensors(read_header(tmp_path / "a.gguf"))
    assert "Q4_K_M" in caught.value.remedy


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(file_of(info("w", (8,), 24), data=bytes(32)))
    with pytest.raises(BadFile, match="'w' holds I8, but has no scale"):
        stored_tensors(read_header(tmp_path / "a.gguf"))


def test_an_empty_tensor_and_a_file_without_values_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(file_of(info("none", (0,)), info("a"), data=bytes(32)))
    assert read_header(tmp_path / "a.gguf").shapes == {"none": (0,), "a": (8,)}


def test_a_split_of_one_file_is_whole_and_long_texts_are_passed_over(tmp_path: Path) -> None:
    values = (
        value("split.count", 2, struct.pack("<H", 1)),
        value("chat_template", 8, text("x" * 4097)),
        value("general.name", 8, text("y" * 4096)),
    )
    (tmp_path / "a.gguf").write_bytes(file_of(info("a"), values=values, data=bytes(32)))
    header = read_header(tmp_path / "a.gguf")
    assert header.metadata == {"chat_template": "", "general.name": "y" * 4096}
    assert set(header.tensors) == {"a"}


def test_a_tensor_has_the_shape_that_its_maker_noted(tmp_path: Path) -> None:
    tensors = (info("a"), info("b", (128,), kind=Q8_0, begin=32))
    values = (noted("a", 1, 2, 1, 2, 2), noted("b", 2, 64), noted("of nothing", 9))
    (tmp_path / "a.gguf").write_bytes(file_of(*tensors, values=values, data=bytes(32 + 160)))
    assert read_header(tmp_path / "a.gguf").shapes == {"a": (1, 2, 1, 2, 2), "b": (2, 64)}


def test_values_of_every_type_are_passed_over(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "qwen_image")
    for number, kind in enumerate(gguf.GGUFValueType):
        if kind not in (gguf.GGUFValueType.STRING, gguf.GGUFValueType.ARRAY):
            writer.add_key_value(f"one{number}", 1, kind)
            writer.add_key_value(f"many{number}", [1, 1, 1], gguf.GGUFValueType.ARRAY, sub_type=kind)
            writer.add_string(f"then{number}", f"text {number}")
    writer.add_tensor("w", np.ones((2, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_header(tmp_path / "a.gguf")
    assert found.shapes == {"w": (2, 8)}
    assert {name: text for name, text in found.metadata.items() if name.startswith("then")} == {
        f"then{number}": f"text {number}" for number in (*range(8), 10, 11, 12)
    }


def test_places_follow_the_alignment_that_the_file_names(tmp_path: Path) -> None:
    head = file_of(
        info("a", (1,)), info("b", (1,), begin=128), values=(value("general.alignment", 4, struct.pack("<I", 128)),)
    ).rstrip(b"\0")
    content = head + bytes(-len(head) % 128) + bytes(132)
    (tmp_path / "a.gguf").write_bytes(content)
    header = read_header(tmp_path / "a.gguf")
    assert header.data_start % 128 == 0 and header.tensors["b"].begin == 128


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"GGUF", "goes beyond its 4 bytes"),
        (b"GGUF" + bytes(99), "a GGUF file of version 0, not 2 or 3"),
        (file_of(version=1), "a GGUF file of version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "for big-endian machines"),
        (file_of(counts=(1 << 62, 0)), "announces 4611686018427387904 tensors, more than 65536"),
        (file_of(counts=(0, 1 << 40)), "announces 1099511627776 values, more than 65536"),
        (file_of(counts=(65537, 0)), "announces 65537 tensors, more than 65536"),
        (file_of(counts=(0, 65536)), "goes beyond its"),
        (file_of(counts=(9, 0)), "goes beyond its"),
        (file_of(values=(text("a" * 40)[:20],), counts=(0, 1)), "goes beyond its"),
        (file_of(values=(struct.pack("<Q", 1 << 63),), counts=(0, 1)), "goes beyond its"),
        (file_of(values=(value("a", 13, b""),)), "'a' is of the unknown type 13"),
        (file_of(values=(value("a", 9, struct.pack("<IQ", 9, 2)),)), "'a' is an array of the type 9"),
        (file_of(values=(value("a", 9, struct.pack("<IQ", 4, 1 << 60)),)), "goes beyond its"),
        (file_of(values=(value("a", 9, struct.pack("<IQ", 8, 1 << 60)),)), "goes beyond its"),
        (file_of(values=(value("a", 9, struct.pack("<IQQ", 8, 1, 1 << 60)),)), "goes beyond its"),
        (file_of(values=(struct.pack("<Q", 1) + b"\xff" + bytes(12),)), "the name of a value is not a text"),
        (file_of(values=(value("general.alignment", 4, struct.pack("<I", 48)),)), "general.alignment is 48"),
        (file_of(values=(value("general.alignment", 4, bytes(4)),)), "general.alignment is 0"),
        (
            file_of(values=(value("general.alignment", 4, struct.pack("<I", 1 << 30)),)),
            "general.alignment is 1073741824",
        ),
        (file_of(values=(value("general.alignment", 10, bytes(8)),)), "general.alignment is of the type 10"),
        (file_of(values=(value("split.count", 2, struct.pack("<H", 3)),)), "one of the 3 files of a split GGUF"),
        (file_of(values=(value("split.count", 2, struct.pack("<H", 2)),)), "one of the 2 files of a split GGUF"),
        (file_of(info(shape=(1,) * 6), data=bytes(32)), "'a' has 6 dimensions, more than 5"),
        (file_of(info(), values=(noted("a", 3, 3),), data=bytes(32)), r"'a' is \[8\], but was \[3, 3\]"),
        (file_of(info(), values=(noted("a", *[2] * 6),), data=bytes(32)), "orig_shape.a' is not a shape"),
        (file_of(info(), values=(noted("a", kind=8),), data=bytes(32)), "orig_shape.a' is not a shape"),
        (
            file_of(info(shape=(64,), kind=Q8_0), values=(noted("a", 4, 16),), data=bytes(96)),
            r"the blocks of which go across its rows of \[4, 16\]",
        ),
        (
            file_of(info(shape=(32,), kind=Q8_0), values=(noted("a", 0),), data=bytes(64)),
            r"'a' is \[32\], but was \[0\]",
        ),
        (file_of(text("a") + struct.pack("<I", 1 << 31), data=bytes(32)), "has 2147483648 dimensions"),
        (file_of(info(kind=5), data=bytes(32)), "'a' is of the unknown type 5"),
        (file_of(info(kind=1 << 30), data=bytes(32)), "'a' is of the unknown type 1073741824"),
        (file_of(info(shape=(1 << 40, 1 << 40)), data=bytes(32)), "damaged at 'a'"),
        (file_of(info(begin=1 << 60), data=bytes(32)), "damaged at 'a'"),
        (
            file_of(info(shape=(40,), kind=Q8_0), data=bytes(64)),
            r"'a' is \[40\], but Q8_0 needs rows of multiples of 32",
        ),
        (file_of(info(shape=(), kind=Q8_0), data=bytes(64)), r"'a' is \[\], but Q8_0 needs rows"),
        (file_of(info(), info("b"), data=bytes(64)), "'b' overlaps 'a'|'a' overlaps 'b'"),
        (file_of(info(), info("b", begin=16), data=bytes(64)), "'b' overlaps 'a'"),
        (file_of(info(shape=(33,), kind=24), info("b", begin=32), data=bytes(64)), "'b' overlaps 'a'"),
        (file_of(info(), info("a", begin=32), data=bytes(64)), "has 'a' twice"),
        (file_of(info(shape=(4,)), info("b", begin=20), data=bytes(64)), "'b' starts at 20"),
        (file_of(info(), info("b", begin=64), data=bytes(96)), "'b' starts at 64"),
        (file_of(info(), data=bytes(31)), "truncated at 'a': 31 bytes of data are there, but it ends at 32"),
        (file_of(info())[:-20], "truncated"),
        (file_of(info(), data=bytes(64)), "longer than its directory says, by 32 bytes"),
    ],
)
def test_a_damaged_directory_is_told_by_what_is_wrong(tmp_path: Path, content: bytes, said: str) -> None:
    assert re.search(said, refusal(tmp_path, content))


def test_a_file_without_magic_is_no_gguf(tmp_path: Path) -> None:
    assert "not a safetensors file" in refusal(tmp_path, b"GGLF" + bytes(60))


@pytest.mark.parametrize("kind", [8, 4])
def test_no_more_is_read_than_the_largest_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int) -> None:
    monkeypatch.setattr(gguf_directory, "MAX_DIRECTORY_BYTES", 1 << 20)  # counting what is allocated takes its time
    path = tmp_path / "a.gguf"
    with path.open("wb") as file:
        file.write(file_of(values=(value("words", 9, struct.pack("<IQ", kind, 1 << 40)),)))
        file.truncate(1 << 43)
    tracemalloc.start()
    with pytest.raises(BadFile, match="its directory has more than 1048576 bytes"):
        read_header(path)
    assert tracemalloc.get_traced_memory()[1] < 3 * gguf_directory.MAX_DIRECTORY_BYTES
    tracemalloc.stop()


def attempt(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        header = read_header(path)
        tensors = stored_tensors(header)
    except BadFile as problem:
        assert problem.what and problem.remedy
        return
    reached = 0
    for stored in sorted(tensors.values(), key=lambda one: (one.entry.begin, one.entry.end)):
        assert reached <= stored.entry.begin <= stored.entry.end <= len(content) - header.data_start
        reached = stored.entry.end


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(content=st.binary(max_size=200))
@example(content=b"")
def test_any_bytes_behind_the_magic_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    attempt(tmp_path / "a.gguf", b"GGUF" + content)
    attempt(tmp_path / "a.gguf", b"GGUF" + struct.pack("<I", 3) + content)


WHOLE = file_of(
    info("a"),
    info("b", (64, 2), Q8_0, begin=32),
    values=(
        value("general.architecture", 8, text("qwen_image")),
        value("words", 9, struct.pack("<IQ", 8, 2) + text("a") + text("")),
        value("general.alignment", 4, struct.pack("<I", 32)),
    ),
    data=bytes(192),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400)
@given(place=st.integers(4, len(WHOLE) - 1), value=st.integers(0, 255), cut=st.integers(4, len(WHOLE)))
def test_a_changed_byte_or_a_cut_is_read_or_refused(tmp_path: Path, place: int, value: int, cut: int) -> None:
    changed = bytearray(WHOLE)
    changed[place] = value
    attempt(tmp_path / "a.gguf", bytes(changed))
    attempt(tmp_path / "a.gguf", bytes(changed[:cut]))
