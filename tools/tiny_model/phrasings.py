"""The tasks, and the form in which a language's ways to ask for them are written down.

Slots: {o} the shape meant, {c} a colour, {ac} a colour with its article, {k} a kind (English: with article), {n} a new
shape (English: with article), {at} and {to} a place, {b} a background, {r} a shape of picture 2, {two} that picture.

A held-out phrasing is a sentence that no training instruction has; every word of it occurs in some phrasing of the
same language that is trained on, as no model can know a word that it never met.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Task = Literal["recolour", "remove", "add", "replace", "move", "grow", "shrink", "background"]
ReferenceTask = Literal["recolour like", "add from", "replace from", "background from"]
AnyTask = Task | ReferenceTask
TASKS: tuple[Task, ...] = get_args(Task)
REFERENCE_TASKS: tuple[ReferenceTask, ...] = get_args(ReferenceTask)


@dataclass(frozen=True, slots=True)
class Phrasings:
    """Ways to ask for one task in one language. Orders take "please" and "can you"; wishes are whole sentences."""

    orders: tuple[str, ...]
    wishes: tuple[str, ...]
    held_out_orders: tuple[str, ...]
    held_out_wishes: tuple[str, ...]

    def __post_init__(self) -> None:
        trained = {*self.orders, *self.wishes}
        assert not trained & {*self.held_out_orders, *self.held_out_wishes}


Frames = tuple[tuple[str, str], ...]
"""How an order may be wrapped: the sentence around {order}, and the mark at its end."""


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines() if line.strip())


def phrasings(orders: str, wishes: str, held_out_orders: str, held_out_wishes: str) -> Phrasings:
    """Phrasings from texts of one sentence per line."""
    return Phrasings(_lines(orders), _lines(wishes), _lines(held_out_orders), _lines(held_out_wishes))
