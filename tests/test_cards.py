"""Tests on a machine without a card know that it has none."""

from __future__ import annotations

import pytest

from tests.cards import has_card_device


@pytest.mark.parametrize(
    ("files", "there"),
    [
        ([], False),
        (["dev/nvidiactl"], True),
        (["dev/dxg", "usr/lib/wsl/lib/libcuda.so.1"], True),
        (["dev/dxg"], False),
        (["usr/lib/wsl/lib/libcuda.so.1"], False),
    ],
    ids=["nothing", "linux", "wsl2", "wsl2 with a card of another maker", "the library alone"],
)
def test_a_card_shows_by_the_device_of_its_driver(tmp_path, files, there):
    for name in files:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert has_card_device(tmp_path) is there
