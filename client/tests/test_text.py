"""How sizes are written."""

from __future__ import annotations

import pytest
from qied_client.text import GIB, at_least_gib, column_size, file_size, gib, size_text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (64 * 1024, "64 KiB"), (200 * 1024**2, "200 MiB"), (12 * GIB, "12.0 GiB"),
     (3 * 1024**4 // 2, "1.5 TiB")],
)  # fmt: skip
def test_sizes_are_in_the_largest_unit_that_they_fill(count: int, text: str) -> None:
    assert size_text(count) == text


def test_a_size_that_is_enough_is_rounded_up() -> None:
    assert (gib(1), at_least_gib(1)) == ("0.0 GiB", "0.1 GiB")
    assert at_least_gib(GIB) == gib(GIB) == "1.0 GiB"


@pytest.mark.parametrize(("count", "text"), [(0, "0"), (1024**2 // 2, "0.5 MiB"), (GIB, "1.00 GiB")])
def test_sizes_in_a_column(count: int, text: str) -> None:
    assert column_size(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.00 kB"), (57_700_000_000, "57.7 GB"), (9_973_000_000, "9.97 GB"),
     (128_400_000, "128 MB"), (1_234_000_000_000, "1,234 GB")],
)  # fmt: skip
def test_sizes_of_files_have_three_digits(count: int, text: str) -> None:
    assert file_size(count) == text
