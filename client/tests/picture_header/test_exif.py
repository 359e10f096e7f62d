from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from qied_client.picture_header.exif import orientation


def exif_by_pillow(turn: int) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "a maker whose name is long enough to lie outside its entry"
    exif[0x0112] = turn
    return exif.tobytes()


def tiff(entry: bytes, order: str = "<", count: int = 1) -> bytes:
    return struct.pack(order + "2sHIH", b"II" if order == "<" else b"MM", 42, 8, count) + entry


@pytest.mark.parametrize("turn", range(1, 9))
def test_it_reads_what_pillow_writes(turn: int) -> None:
    block = exif_by_pillow(turn)
    assert block.startswith(b"Exif\0\0")
    assert orientation(block) == turn
    assert orientation(block.removeprefix(b"Exif\0\0")) == turn


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_are_read(order: str) -> None:
    assert orientation(tiff(struct.pack(order + "HHIHH", 0x0112, 3, 1, 6, 0), order)) == 6


@pytest.mark.parametrize(
    ("kind", "values", "value"), [(3, 1, 0), (3, 1, 9), (3, 2, 6), (4, 1, 6)], ids=["0", "9", "two values", "a long"]
)
def test_an_invalid_orientation_counts_as_upright(kind: int, values: int, value: int) -> None:
    assert orientation(tiff(struct.pack("<HHIHH", 0x0112, kind, values, value, 0))) == 1


def test_a_directory_beyond_the_block_counts_as_upright() -> None:
    assert orientation(b"II*\0" + struct.pack("<I", 2**32 - 1)) == 1


@given(st.integers(1, 8), st.integers(0, 200))
def test_a_block_that_is_cut_off_gives_its_orientation_or_upright(turn: int, length: int) -> None:
    assert orientation(exif_by_pillow(turn)[:length]) in (1, turn)


@given(st.binary(max_size=300))
def test_any_bytes_give_an_orientation(block: bytes) -> None:
    assert 1 <= orientation(b"MM\0*\0\0\0\x08" + block) <= 8
