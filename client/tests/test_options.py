"""The options of an edit: what help shows, what is taken, and what each refusal says."""

from __future__ import annotations

import inspect
import pydoc
import re
from collections import UserDict
from dataclasses import fields
from typing import Any, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qied_client.errors import InvalidRequest, UnknownOption
from qied_client.options import OPTIONS, EditOptions, edit_request, lora_choices, shows_options
from qied_client.protocol import limits
from qied_client.protocol.request import EditRequest, LoraChoice

NAMES = st.text("abc/", min_size=1, max_size=8)
STRENGTHS = st.floats(-4, 4) | st.integers(-4, 4)
PAIRS = st.tuples(NAMES, STRENGTHS)


def refused(**options: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        edit_request("x", 1, options)
    return caught.value


def strengths(loras: object) -> list[tuple[str, float]]:
    return [(choice.name, choice.strength) for choice in lora_choices(loras)]


def test_the_options_are_the_fields_of_a_request() -> None:
    of_request = {field.name for field in fields(EditRequest)} - {"images", "prompt"}
    assert set(EditOptions.__annotations__) == set(OPTIONS) == of_request
    assert set(get_type_hints(EditOptions)) == of_request


def test_help_shows_type_unit_default_and_meaning_of_every_option() -> None:
    @shows_options
    def edit(picture: str, *, timeout: float | None = None, **options: Any) -> None:
        """Edit it."""

    text = pydoc.plain(pydoc.render_doc(edit))
    assert "timeout: 'float | None' = None, negative_prompt: 'str | None' = None" in text
    entries = re.split(r"\n    (?=\w+ : )", text)[1:]
    assert [entry.split(" : ")[0] for entry in entries] == list(OPTIONS)
    for entry, (name, option) in zip(entries, OPTIONS.items(), strict=True):
        words = " ".join(entry.split())
        assert str(EditOptions.__annotations__[name].__forward_arg__) in words
        assert all(part in words for part in (option.values, option.meaning, option.without, "default "))
    assert "pixels" in next(entry for entry in entries if entry.startswith("width"))


def test_the_signature_has_every_option_with_its_default() -> None:
    @shows_options
    def edit(picture: str, *, seed: int = 3, **options: Any) -> None: ...

    parameters = inspect.signature(edit).parameters
    assert list(parameters) == ["picture", "seed", *(name for name in OPTIONS if name != "seed")]
    assert parameters["seed"].default == 3
    for field in fields(EditRequest):
        if field.name in parameters and field.name not in ("seed", "mask"):
            assert parameters[field.name].default == field.default
    assert edit.__doc__ is None


def test_defaults_are_those_of_the_protocol_but_for_the_seed() -> None:
    assert edit_request("x", 7, {}) == EditRequest((), "x", 7)
    assert edit_request("x", 7, {"seed": None, "loras": None}) == EditRequest((), "x", 7)
    assert edit_request("x", 7, {"seed": 0}).seed == 0


def test_numbers_of_numpy_are_numbers() -> None:
    request = edit_request(
        "x",
        1,
        {"seed": np.int64(5), "steps": np.uint8(4), "true_cfg_scale": np.float32(2.5), "loras": ("a", np.float64(0.5))},
    )
    assert (request.seed, request.steps, request.true_cfg_scale) == (5, 4, 2.5)
    assert {type(request.seed), type(request.steps)} == {int}
    assert request.loras == (LoraChoice("a", 0.5),)
    assert request.payload_hash()


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("steps", "forty", "must be an integer, not 'forty'. Give an integer from 1 to 200."),
        ("steps", 20.0, "not 20.0. Give an integer from 1 to 200."),
        ("steps", True, "not True"),
        ("seed", -1, f"0 to {limits.SEED}"),
        ("true_cfg_scale", "4", "not '4'. Give a number from 1 to 20."),
        ("true_cfg_scale", float("nan"), "a number from 1 to 20"),
        ("width", 1000, "Give 992 or 1008."),
        ("height", 8, "pixels, 16 to 8192 in multiples of 16"),
        ("preset", 3, "a name of at most 128 characters"),
        ("negative_prompt", b"x", "text of at most 3000 bytes"),
        ("on_cap", "shrink", "'refuse' or 'fit'"),
        ("output_format", "jpeg", "'png' or 'webp'"),
        ("previews", 1, "True or False"),
        ("previews", None, "True or False"),
        ("priority", 11, "an integer from -10 to 10"),
        ("loras", 3, "3 is not a LoRA"),
        ("loras", {"a"}, "a list of these"),
        ("loras", {"a": "strong"}, "{'a': 'strong'} is not a LoRA"),
        ("loras", {"a": True}, "strengths from -4 to 4"),
        ("loras", ["a", 0.5], r"0.5 is not a LoRA"),
        ("loras", {"a": 5}, "from -4 to 4, not 5"),
        ("loras", ["../a"], "folder/style"),
        ("loras", ["a"] * 9, "0 to 8 items"),
    ],
    ids=repr,
)
def test_a_wrong_value_is_refused_with_what_is_allowed(option: str, value: object, words: str) -> None:
    given = {option: value} if option != "height" else {"width": 64, "height": value}
    error = refused(**given)
    assert option in error.message
    assert words in str(error)
    assert str(error.details["field"]).startswith(option)


def test_a_wrong_prompt_is_refused_with_what_is_allowed() -> None:
    for prompt in (5, "", "x" * 8001):
        with pytest.raises(InvalidRequest, match="that says what to change") as caught:
            edit_request(prompt, 1, {})  # type: ignore[arg-type]
        assert caught.value.details["field"] == "prompt"


def test_a_width_alone_is_refused() -> None:
    assert "Give both" in refused(width=64).remedy


def test_an_unknown_option_is_refused_before_wrong_values() -> None:
    error = refused(steps="forty", sede=3)
    assert isinstance(error, UnknownOption)
    assert error.details == {"field": "sede", "nearest": "seed"}


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
