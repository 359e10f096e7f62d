"""Draws the sentence of an edit: a phrasing for training or a held-out one, politeness, end mark and capital."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tools.tiny_model import chinese, english
from tools.tiny_model.phrasings import AnyTask, Frames, Phrasings
from tools.tiny_model.words import Language

PHRASINGS: dict[Language, dict[AnyTask, Phrasings]] = {"en": english.PHRASINGS, "zh": chinese.PHRASINGS}
FRAMES: dict[Language, Frames] = {"en": english.FRAMES, "zh": chinese.FRAMES}
ORDER_SHARE = 0.8
"""Share of orders among the sentences; the rest are wishes."""
PLAIN_ORDER_SHARE = 0.7
"""Share of the orders that no polite frame goes around."""
CHINESE_MARKS = {".": "。", "!": "！"}  # noqa: RUF001 - Chinese marks


def sample_phrasing(rng: Random, task: AnyTask, language: Language, held_out: bool) -> str:
    """A sentence with slots for the task and its end mark: trained or held out, framed politely at times."""
    known = PHRASINGS[language][task]
    orders, wishes = (known.held_out_orders, known.held_out_wishes) if held_out else (known.orders, known.wishes)
    if rng.random() >= ORDER_SHARE:
        return rng.choice(wishes) + _mark(rng, language, ".")
    order = rng.choice(orders)
    if rng.random() < PLAIN_ORDER_SHARE:
        return order + _mark(rng, language, ".!")
    frame, mark = rng.choice(FRAMES[language])
    return frame.replace("{order}", order) + _mark(rng, language, mark)


def _mark(rng: Random, language: Language, marks: Sequence[str]) -> str:
    """No mark at the end in every other sentence, an exclamation rarely."""
    if rng.random() < 0.5:
        return ""
    mark = marks[0] if rng.random() < 0.9 else marks[-1]
    return mark if language == "en" else CHINESE_MARKS.get(mark, mark)


def capitalised(rng: Random, sentence: str) -> str:
    """The sentence with a capital at its start in every other one."""
    return sentence[0].upper() + sentence[1:] if rng.random() < 0.5 else sentence
