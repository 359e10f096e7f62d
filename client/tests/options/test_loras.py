"""Every way to write LoRAs down means what it says."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qied_client.errors import InvalidRequest
from qied_client.options import lora_choices
from qied_client.protocol.request import LoraChoice

NAMES = st.text("abc/", min_size=1, max_size=8)
STRENGTHS = st.floats(-4, 4) | st.integers(-4, 4)
PAIRS = st.tuples(NAMES, STRENGTHS)


def strengths(loras: object) -> list[tuple[str, float]]:
    return [(choice.name, choice.strength) for choice in lora_choices(loras)]


@given(NAMES)
def test_a_name_is_one_lora_at_full_strength(name: str) -> None:
    assert strengths(name) == strengths([name]) == strengths((name,)) == [(name, 1.0)]


@given(st.lists(PAIRS, max_size=8, unique_by=lambda pair: pair[0]))
def test_every_way_to_write_strengths_means_the_same(pairs: list[tuple[str, float]]) -> None:
    assert strengths(dict(pairs)) == strengths(UserDict(pairs)) == pairs
    assert strengths(pairs) == strengths(tuple(pairs)) == strengths([list(pair) for pair in pairs]) == pairs
    assert strengths([{name: strength} for name, strength in pairs]) == pairs
    assert strengths([LoraChoice(*pair) for pair in pairs]) == pairs


@given(st.lists(NAMES | PAIRS | st.dictionaries(NAMES, STRENGTHS, max_size=3), max_size=6))
def test_a_mixed_list_keeps_everything_in_its_order(items: list[Any]) -> None:
    expected: list[tuple[str, float]] = []
    for item in items:
        expected += [(item, 1.0)] if isinstance(item, str) else item.items() if isinstance(item, dict) else [item]
    assert strengths(items) == expected


@given(PAIRS)
def test_a_pair_alone_is_one_lora(pair: tuple[str, float]) -> None:
    assert strengths(pair) == [pair]
    assert strengths(LoraChoice(*pair)) == [pair]


JUNK = st.integers() | st.floats() | st.binary() | st.sets(NAMES) | st.tuples(NAMES, NAMES, STRENGTHS)


@given(JUNK)
def test_anything_else_is_refused_and_shown(junk: object) -> None:
    for loras in ([junk], {"a": junk} if not isinstance(junk, (int, float)) else [junk]):
        with pytest.raises(InvalidRequest, match="is not a LoRA") as caught:
            lora_choices(loras)
        assert caught.value.details == {"field": "loras"}
