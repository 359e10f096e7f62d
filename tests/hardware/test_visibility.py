"""CUDA_VISIBLE_DEVICES is read as CUDA reads it."""

from __future__ import annotations

import pytest

from qied.hardware.snapshot import Gpu
from qied.hardware.visibility import in_cuda_order, named_cards, select_card, visible

CARDS = (
    Gpu(index=0, uuid="GPU-49375ffb-ea5f", name="a"),
    Gpu(index=1, uuid="GPU-0a1c2f6e-92d4", name="b"),
    Gpu(index=2, uuid="GPU-0a1cffff-92d4", name="c"),
)
SPLIT = (
    Gpu(index=0, uuid="MIG-1111", name="part"),
    Gpu(index=0, uuid="MIG-2222", name="part"),
    Gpu(index=1, uuid="GPU-9999", name="whole"),
)


@pytest.mark.parametrize(
    ("value", "indices"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1", [1]),
        ("2,0", [2, 0]),
        (" 2 , 0 ", [2, 0]),
        ("1,1,0", [1, 0]),
        ("0,7,1", [0]),
        ("0,-1,1", [0]),
        ("GPU-0a1c2f6e-92d4", [1]),
        ("GPU-4937", [0]),
        ("GPU-0a1c", []),
        ("GPU-0a1cf,GPU-49", [2, 0]),
        ("garbage,0", []),
    ],
)
def test_entries_choose_cards_until_one_names_none(value, indices):
    assert [gpu.index for gpu in visible(CARDS, value)] == indices


def test_an_index_of_a_split_card_is_its_first_instance_and_a_uuid_any():
    assert visible(SPLIT, "0") == SPLIT[:1]
    assert visible(SPLIT, "MIG-2222") == SPLIT[1:2]
    assert visible(SPLIT, "1") == SPLIT[2:]


def test_cudas_own_order_wins():
    assert [gpu.index for gpu in in_cuda_order(CARDS, ("0a1cffff-92d4", "49375ffb-ea5f"))] == [2, 0]


def test_a_worker_is_given_its_card_by_uuid_or_else_by_its_place_on_the_bus():
    assert select_card(CARDS[1]) == {"CUDA_VISIBLE_DEVICES": "GPU-0a1c2f6e-92d4"}
    assert select_card(Gpu(index=3, name="unnamed")) == {
        "CUDA_VISIBLE_DEVICES": "3",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }


@pytest.mark.parametrize(
    ("gpus", "entries", "numbers"),
    [
        (CARDS, ["2", "0"], [0, 2]),
        (CARDS, ["GPU-0a1cf", "0"], [0, 2]),
        (CARDS, ["GPU-49375ffb-ea5f", "0"], [0]),
        (SPLIT, ["MIG-2"], [1]),
        (SPLIT, ["0"], [0, 1]),
        (SPLIT, ["MIG-1111", "GPU-9999"], [0, 2]),
    ],
)
def test_cards_are_chosen_by_index_uuid_or_the_beginning_of_one(gpus, entries, numbers):
    assert named_cards(gpus, entries) == tuple(gpus[number] for number in numbers)


@pytest.mark.parametrize(
    ("entry", "said"), [("7", "there is no card 7"), ("GPU-f", "no card GPU-f"), ("GPU-0a1c", "beginning of 2 UUIDs")]
)
def test_an_entry_that_names_no_card_or_several_is_refused(entry, said):
    with pytest.raises(ValueError, match=said):
        named_cards(CARDS, ["0", entry])
