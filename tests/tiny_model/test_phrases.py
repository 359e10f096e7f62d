from __future__ import annotations

import re
from random import Random

import pytest

from tools.tiny_model.phrases import FRAMES, PHRASINGS, sample_phrasing
from tools.tiny_model.phrasings import REFERENCE_TASKS, TASKS, AnyTask, Phrasings
from tools.tiny_model.words import LANGUAGES, Language

ALL = [(language, task) for language in LANGUAGES for task in (*TASKS, *REFERENCE_TASKS)]
SLOTS: dict[str, set[str]] = {
    "recolour": {"o", "c"},
    "remove": {"o"},
    "add": {"n", "at"},
    "replace": {"o", "k"},
    "move": {"o", "at"},
    "grow": {"o"},
    "shrink": {"o"},
    "background": {"b"},
    "recolour like": {"o", "r", "two"},
    "add from": {"r", "two", "at"},
    "replace from": {"o", "r", "two"},
    "background from": {"two"},
}


def trained(known: Phrasings) -> tuple[str, ...]:
    return (*known.orders, *known.wishes)


def held_out(known: Phrasings) -> tuple[str, ...]:
    return (*known.held_out_orders, *known.held_out_wishes)


def words(sentence: str, language: Language) -> set[str]:
    bare = re.sub(r"\{\w+\}", " ", sentence)
    return set(re.findall(r"\w+", bare.lower())) if language == "en" else set(re.findall(r"\w", bare))


@pytest.mark.parametrize(("language", "task"), ALL)
def test_every_phrasing_says_all_that_the_task_needs(language: Language, task: AnyTask) -> None:
    known = PHRASINGS[language][task]
    for sentence in (*trained(known), *held_out(known)):
        slots = re.findall(r"\{(\w+)\}", sentence)
        said = [{"to": "at", "ac": "c"}.get(slot, slot) for slot in slots]
        assert set(said) - {"two"} == SLOTS[task] - {"two"}, sentence
        assert ("two" in said) == ("two" in SLOTS[task]), sentence


@pytest.mark.parametrize(("language", "task"), ALL)
def test_both_groups_have_orders_and_wishes_and_share_no_sentence(language: Language, task: AnyTask) -> None:
    known = PHRASINGS[language][task]
    assert all((known.orders, known.wishes, known.held_out_orders, known.held_out_wishes))
    everything = [*trained(known), *held_out(known)]
    assert len(everything) == len(set(everything))


@pytest.mark.parametrize("language", LANGUAGES)
def test_held_out_phrasings_use_only_words_that_training_has(language: Language) -> None:
    known_words: set[str] = set()
    for task in PHRASINGS[language].values():
        for sentence in trained(task):
            known_words |= words(sentence, language)
    for frame, _ in FRAMES[language]:
        known_words |= words(frame, language)
    unknown = {
        sentence: words(sentence, language) - known_words
        for task in PHRASINGS[language].values()
        for sentence in held_out(task)
        if words(sentence, language) - known_words
    }
    assert unknown == {}


@pytest.mark.parametrize(("language", "task"), ALL)
def test_a_held_out_phrasing_is_never_drawn_for_training(language: Language, task: AnyTask) -> None:
    rng = Random(0)
    known = PHRASINGS[language][task]
    for _ in range(200):
        sentence = sample_phrasing(rng, task, language, held_out=False)
        assert any(pattern in sentence for pattern in trained(known))
        assert sentence.rstrip(".!?。！？") not in held_out(known)  # noqa: RUF001 - Chinese marks
        asked = sample_phrasing(rng, task, language, held_out=True)
        assert any(pattern in asked for pattern in held_out(known))


def test_sentences_come_plain_polite_and_with_and_without_marks() -> None:
    rng = Random(0)
    sentences = {sample_phrasing(rng, "remove", "en", held_out=False) for _ in range(800)}
    assert {"remove {o}", "remove {o}.", "{o} should disappear"} <= sentences
    assert any(sentence.startswith("can you ") and sentence.endswith("?") for sentence in sentences)
    assert any("please" in sentence for sentence in sentences)


@pytest.mark.parametrize("verb", ["create", "relocate", "eliminate", "enlarge", "shrink", "repaint", "morph"])
def test_training_knows_the_verb(verb: str) -> None:
    assert any(verb in sentence for task in PHRASINGS["en"].values() for sentence in trained(task))
