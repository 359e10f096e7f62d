"""Sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qied.sizes import read_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("12GB", 12 * 10**9),
        ("8GiB", 8 * 2**30),
        ("512 MiB", 512 * 2**20),
        ("11.5 gib", int(11.5 * 2**30)),
        ("500M", 500 * 10**6),
        ("2Gi", 2 * 2**30),
        (" 1TB ", 10**12),
        ("0.1GB", 10**8),
        ("7", 7),
        ("0", 0),
    ],
    ids=str,
)
def test_sizes_are_read_in_decimal_and_binary_units(text, size):
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "12XB", "1e9", "8GB a", "1.5.5GB", "1,5GB", "8Gbit", "i", "٣GB"])
def test_what_is_not_a_size_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="is not a size; write it as 8GB, "):
        read_size(text)


@given(st.integers(0, 10**17), st.sampled_from(["", "k", "Mi", "GB", "TiB"]))
def test_whole_numbers_of_units_are_exact(number, unit):
    power = {"": 1, "k": 1000, "Mi": 2**20, "GB": 10**9, "TiB": 2**40}[unit]
    assert read_size(f"{number}{unit}") == number * power
