"""What is edited: the fixed held-out set, edits with two pictures, and sessions, each with the seed of its noise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from tools.tiny_model.edits import HELD_OUT_SEED, Edit, held_out_set, sample_session
from tools.tiny_model.phrasings import REFERENCE_TASKS, TASKS
from tools.tiny_model.words import LANGUAGES

TURNS = 5
SESSIONS = 48
TWO_PICTURE_GROUP = 6
"""Edits with two pictures for each task, language and kind of phrasing."""
EDITS_A_SESSION = 8
"""With a limit, one session is run for this many edits of it."""


@dataclass(frozen=True)
class Session:
    """Edits in a row, each on the result of the one before; most have one. Turn i starts from the noise of seed + i."""

    number: int
    edits: tuple[Edit, ...]
    seed: int


def single_edits(limit: int | None = None) -> list[Session]:
    """The held-out set, 384 edits, each a session of its own; at most ``limit`` of them, evenly over the tasks."""
    return _limited(_single(), limit)


def two_picture_edits(limit: int | None = None) -> list[Session]:
    """96 held-out edits that take something from a second picture; at most ``limit``, evenly over the tasks."""
    return _limited(_numbered(held_out_set(tasks=REFERENCE_TASKS, per_group=TWO_PICTURE_GROUP)), limit)


def turns(limit: int | None = None) -> list[Session]:
    """48 sessions of five turns in trained phrasings, half in each language; fewer where edits are limited."""
    count = SESSIONS if limit is None else max(2, min(SESSIONS, limit // EDITS_A_SESSION))
    return [Session(number, _in_a_row(number), number * TURNS) for number in range(count)]


def _in_a_row(number: int) -> tuple[Edit, ...]:
    rng = Random(f"{HELD_OUT_SEED}/session/{number}")
    return sample_session(rng, TURNS, LANGUAGES[number % len(LANGUAGES)])


@cache
def _single() -> tuple[Session, ...]:
    """The whole set, which takes a moment to draw and is asked for by every row."""
    return _numbered(held_out_set(tasks=TASKS))


def _numbered(edits: Iterable[Edit]) -> tuple[Session, ...]:
    return tuple(Session(number, (edit,), number) for number, edit in enumerate(edits))


def _limited(sessions: Sequence[Session], limit: int | None) -> list[Session]:
    if limit is None or limit >= len(sessions):
        return list(sessions)
    return sorted(_evenly(sessions)[:limit], key=lambda session: session.number)


def _evenly(sessions: Iterable[Session]) -> list[Session]:
    """Bring sessions into an order whose every beginning has about as many of each task, phrasing and language."""
    seen: Counter[tuple[str, str, bool]] = Counter()
    ranked: list[tuple[int, bool, str, Session]] = []
    for session in sessions:
        edit = session.edits[0]
        group = (edit.task, edit.language, edit.held_out_phrase)
        ranked.append((seen[group], edit.held_out_phrase, edit.language, session))
        seen[group] += 1
    ranked.sort(key=lambda entry: entry[:3])
    return [session for *_, session in ranked]
