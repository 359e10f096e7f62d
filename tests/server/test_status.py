"""Names of cards, by which figures tell the workers' memory apart."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qied.server.status import card_names


@pytest.mark.parametrize(
    ("devices", "names"),
    [
        ([("cpu", 0)], ["cpu"]),
        ([("cuda", 1), ("cuda", 0)], ["1", "0"]),
        ([("cuda", 0), ("cuda", 0), ("cuda", 1), ("cuda", 0)], ["0", "0-2", "1", "0-3"]),
        ([], []),
    ],
)
def test_a_card_has_its_index_and_partitions_of_one_a_number(devices, names):
    orders = [SimpleNamespace(execution=SimpleNamespace(device=kind, device_index=index)) for kind, index in devices]
    assert card_names(orders) == names
