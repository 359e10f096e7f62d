from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.tiny_model.edits import (
    ALL_TASKS,
    Edit,
    held_out_set,
    is_held_out,
    sample_edit,
    sample_session,
)
from tools.tiny_model.phrasings import REFERENCE_TASKS, TASKS, AnyTask
from tools.tiny_model.scenes import COLOURS, KINDS, SIZES, Scene, Shape, is_valid
from tools.tiny_model.words import COLOUR_NAMES, LANGUAGES, Language

TASK = st.sampled_from(ALL_TASKS)
LANGUAGE = st.sampled_from(LANGUAGES)


def difference(edit: Edit) -> tuple[tuple[Shape, ...], tuple[Shape, ...]]:
    """Shapes that only the source has, and those that only the target has."""
    old, new = edit.source.shapes, edit.target.shapes
    return tuple(shape for shape in old if shape not in new), tuple(shape for shape in new if shape not in old)


def fields(before: Shape, after: Shape) -> set[str]:
    names = ("kind", "colour", "size", "place")
    return {name for name in names if getattr(before, name) != getattr(after, name)}


@given(seed=st.integers(0, 10**9), task=TASK, language=LANGUAGE, phrase=st.booleans(), combination=st.booleans())
def test_an_edit_is_what_was_asked_for(
    seed: int, task: AnyTask, language: Language, phrase: bool, combination: bool
) -> None:
    edit = sample_edit(Random(seed), task, language, held_out_phrase=phrase, held_out_combination=combination)
    assert (edit.task, edit.language) == (task, language)
    assert (edit.held_out_phrase, edit.held_out_combination) == (phrase, combination)
    assert is_valid(edit.source) and is_valid(edit.target) and edit.source != edit.target
    assert (edit.reference is not None) == (task in REFERENCE_TASKS)
    assert not re.search(r"[{}]", edit.instruction)
    assert bool(re.search(r"[\u4e00-\u9fff]", edit.instruction)) == (language == "zh")


@pytest.mark.parametrize("task", ALL_TASKS)
def test_an_edit_changes_one_thing(task: AnyTask) -> None:
    rng = Random(3)
    for _ in range(60):
        edit = sample_edit(rng, task)
        gone, new = difference(edit)
        assert (edit.source.background != edit.target.background) == task.startswith("background")
        if task.startswith("background"):
            assert gone == new == ()
        elif task == "remove":
            assert (len(gone), len(new)) == (1, 0)
        elif task.startswith("add"):
            assert (len(gone), len(new)) == (0, 1)
        else:
            assert (len(gone), len(new)) == (1, 1)
            _assert_change(task, gone[0], new[0])


def _assert_change(task: AnyTask, before: Shape, after: Shape) -> None:
    step = SIZES.index(after.size) - SIZES.index(before.size)
    expected = {
        "recolour": {"colour"},
        "recolour like": {"colour"},
        "replace": {"kind"},
        "move": {"place"},
        "grow": {"size"},
        "shrink": {"size"},
    }
    if task == "replace from":
        assert fields(before, after) <= {"kind", "colour"}
    else:
        assert fields(before, after) == expected[task]
    assert step == {"grow": 1, "shrink": -1}.get(task, 0)


def test_a_new_colour_is_named_in_the_instruction() -> None:
    rng = Random(4)
    for _ in range(100):
        edit = sample_edit(rng, "recolour")
        names = COLOUR_NAMES[edit.language][difference(edit)[1][0].colour]
        assert any(name in edit.instruction.lower() for name in names)


def test_what_comes_from_picture_2_is_in_picture_2() -> None:
    rng = Random(5)
    for task in REFERENCE_TASKS:
        for _ in range(40):
            edit = sample_edit(rng, task)
            assert edit.reference is not None
            assert re.search(r"2|second|第二", edit.instruction)
            if task == "background from":
                assert edit.target.background == edit.reference.background
                continue
            after = difference(edit)[1][0]
            colours = {shape.colour for shape in edit.reference.shapes}
            looks = {(shape.kind, shape.colour) for shape in edit.reference.shapes}
            assert after.colour in colours if task == "recolour like" else (after.kind, after.colour) in looks


def test_the_same_seed_gives_the_same_edits() -> None:
    assert [sample_edit(Random(8)) for _ in range(3)] == [sample_edit(Random(8)) for _ in range(3)]
    assert sample_session(Random(8), 3) == sample_session(Random(8), 3)


def test_training_never_meets_a_held_out_pair_and_meets_all_the_rest() -> None:
    rng = Random(9)
    pairs = Counter()
    for _ in range(6000):
        shape = difference(sample_edit(rng, "remove"))[0][0]
        pairs[COLOURS.index(shape.colour), KINDS.index(shape.kind)] += 1
    everything = {(colour, kind) for colour in range(len(COLOURS)) for kind in range(len(KINDS))}
    held_out = {pair for pair in everything if is_held_out("remove", *pair)}
    assert 3 <= len(held_out) <= 7
    assert set(pairs) == everything - held_out


def test_a_plain_background_is_never_held_out() -> None:
    assert not any(is_held_out("background", colour, colour) for colour in range(len(COLOURS)))


@given(seed=st.integers(0, 10**9), turns=st.integers(1, 6))
def test_each_turn_of_a_session_starts_from_the_result_before(seed: int, turns: int) -> None:
    session = sample_session(Random(seed), turns)
    assert len(session) == turns
    for before, after in pairwise(session):
        assert after.source == before.target
        assert after.task != before.task
    assert all(edit.target.shapes for edit in session)


def test_the_held_out_set_is_balanced_and_fixed() -> None:
    edits = held_out_set()
    assert len(edits) >= 300
    groups = Counter((edit.task, edit.language, edit.held_out_phrase) for edit in edits)
    assert set(groups) == {(task, language, phrase) for task in TASKS for language in LANGUAGES for phrase in (0, 1)}
    assert len(set(groups.values())) == 1
    assert sum(edit.held_out_combination for edit in edits) * 2 == len(edits)
    assert edits == held_out_set()
    assert len({edit.source for edit in edits}) == len(edits)


def test_a_held_out_set_of_fewer_tasks_has_the_same_edits_of_these() -> None:
    assert held_out_set(tasks=["move"], per_group=2) == tuple(
        edit for edit in held_out_set(per_group=2) if edit.task == "move"
    )
    assert held_out_set(1, per_group=1) != held_out_set(2, per_group=1)


def test_held_out_edits_with_a_second_picture_have_one() -> None:
    edits = held_out_set(tasks=REFERENCE_TASKS, per_group=2)
    assert len(edits) == 32
    assert all(isinstance(edit.reference, Scene) for edit in edits)
