"""From single outcomes to figures: success with its confidence by group of edits, differences between rows, drift."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quality_bench.sets import Session
from tools.tiny_model.edits import Edit
from tools.tiny_model.phrasings import TASKS

if TYPE_CHECKING:
    from quality_bench.jobs import Outcome

Figures = dict[str, Any]
OVERALL, EVERYTHING = "overall", "everything"
HELD_OUT, HELD_OUT_ENGLISH, HELD_OUT_CHINESE = (
    "held-out phrasings",
    "held-out phrasings, English",
    "held-out phrasings, Chinese",
)
Z95 = 1.959964
"""Quantile of the normal distribution for a confidence of 95%."""
LOW_SHARE = 0.05


def _trained(edit: Edit) -> bool:
    return not edit.held_out_phrase


def _task(task: str) -> Callable[[Edit], bool]:
    return lambda edit: _trained(edit) and edit.task == task


GROUPS: dict[str, Callable[[Edit], bool]] = {
    OVERALL: _trained,
    **{task: _task(task) for task in TASKS},
    "English": lambda edit: _trained(edit) and edit.language == "en",
    "Chinese": lambda edit: _trained(edit) and edit.language == "zh",
    "trained combinations": lambda edit: _trained(edit) and not edit.held_out_combination,
    "held-out combinations": lambda edit: _trained(edit) and edit.held_out_combination,
    HELD_OUT: lambda edit: edit.held_out_phrase,
    HELD_OUT_ENGLISH: lambda edit: edit.held_out_phrase and edit.language == "en",
    HELD_OUT_CHINESE: lambda edit: edit.held_out_phrase and edit.language == "zh",
    EVERYTHING: lambda edit: True,
}
"""All but the last four are of edits in trained phrasings, held-out combinations included."""


def wilson(successes: int, count: int) -> tuple[float, float]:
    """The 95% confidence interval of a share.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference"; it holds for few trials and
    near 0 and 1.
    """
    share, z2 = successes / count, Z95 * Z95
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def share_of(flags: Sequence[bool]) -> Figures:
    """How many are true, as a share with its confidence interval."""
    if not flags:
        return {"count": 0, "share": None, "low": None, "high": None}
    low, high = wilson(sum(flags), len(flags))
    return {"count": len(flags), "share": sum(flags) / len(flags), "low": low, "high": high}


def by_group(sessions: Mapping[int, Session], outcomes: Sequence[Outcome]) -> dict[str, Figures]:
    """Figures of each group of ``GROUPS`` that has edits."""
    found: dict[str, Figures] = {}
    for name, belongs in GROUPS.items():
        group = [outcome for outcome in outcomes if belongs(sessions[outcome.session].edits[outcome.turn])]
        if group:
            found[name] = summary(group)
    return found


def summary(outcomes: Sequence[Outcome]) -> Figures:
    """Success and distances to the truth of some outcomes; dB, and levels of 255 for errors."""
    scores = [outcome.score for outcome in outcomes]
    preserved = [score.preserved_psnr for score in scores if score.preserved_psnr is not None]
    return {
        "success": share_of([score.success for score in scores]),
        "psnr_db": mean(score.psnr for score in scores),
        "ssim": mean(score.ssim for score in scores),
        "preserved_db": mean(preserved),
        "preserved_low_db": sorted(preserved)[int(LOW_SHARE * len(preserved))] if preserved else None,
        "colour_error": mean(score.colour_error for score in scores),
        "overlap": mean(score.overlap for score in scores if score.overlap is not None),
    }


def mean(values: Iterable[float]) -> float | None:
    """Mean, None of nothing."""
    held = list(values)
    return sum(held) / len(held) if held else None


def difference(sessions: Mapping[int, Session], ours: Sequence[Outcome], base: Sequence[Outcome]) -> Figures:
    """PSNR to the truth of one row less that of another, edit by edit: dB, below 0 where the first one is worse.

    ``error_db`` is the standard error of the mean. ``both`` is over the edits that succeed in both rows, where no edit
    that turns from a success to a failure outweighs all others; ``lost`` and ``won`` count those.
    """
    other = {outcome.session: outcome.score for outcome in base}
    pairs = [(outcome.session, outcome.score, other[outcome.session]) for outcome in ours if outcome.session in other]
    changes = [mine.psnr - theirs.psnr for _, mine, theirs in pairs]
    average = sum(changes) / len(changes)
    spread = sum((change - average) ** 2 for change in changes) / max(1, len(changes) - 1)
    tasks: dict[str, list[float]] = {}
    for (number, *_), change in zip(pairs, changes, strict=True):
        tasks.setdefault(sessions[number].edits[0].task, []).append(change)
    return {
        "count": len(pairs),
        "mean_db": average,
        "error_db": math.sqrt(spread / len(changes)),
        "tasks_db": {task: mean(found) for task, found in tasks.items()},
        "both_db": mean(mine.psnr - theirs.psnr for _, mine, theirs in pairs if mine.success and theirs.success),
        "lost": sum(theirs.success and not mine.success for _, mine, theirs in pairs),
        "won": sum(mine.success and not theirs.success for _, mine, theirs in pairs),
    }


def drift(outcomes: Sequence[Outcome]) -> Figures:
    """Figures of each turn, and of whole sessions up to the second and to the last turn.

    ``success`` is that of the turn's result, ``all_so_far`` that of every turn up to it. ``untouched_db`` is the PSNR
    against the first source where no turn so far edits anything, ``untouched_good_db`` of sessions without a failure.
    """
    sessions: dict[int, dict[int, Outcome]] = {}
    for outcome in outcomes:
        sessions.setdefault(outcome.session, {})[outcome.turn] = outcome
    turns = max(outcome.turn for outcome in outcomes) + 1
    return {"sessions": len(sessions), "turns": [_turn(list(sessions.values()), turn) for turn in range(turns)]}


def _turn(sessions: Sequence[Mapping[int, Outcome]], turn: int) -> Figures:
    outcomes = [session[turn] for session in sessions]
    good = [all(session[each].score.success for each in range(turn + 1)) for session in sessions]
    return {
        **summary(outcomes),
        "all_so_far": share_of(good),
        "untouched_db": mean(_untouched(outcomes)),
        "untouched_good_db": mean(_untouched([outcome for outcome, fine in zip(outcomes, good, strict=True) if fine])),
    }


def _untouched(outcomes: Iterable[Outcome]) -> list[float]:
    return [outcome.untouched_db for outcome in outcomes if outcome.untouched_db is not None]


def style(outcomes: Sequence[Outcome]) -> Figures:
    """In how many results the style shows, of those that have a shape, with the LoRA and without it."""
    found: Figures = {}
    for name, with_lora in (("with", True), ("without", False)):
        flags = [o.shows_style for o in outcomes if o.with_lora is with_lora and o.shows_style is not None]
        if flags:
            found[name] = share_of(flags)
    styled = [outcome.styled_db for outcome in outcomes if outcome.styled_db is not None]
    return {**found, "psnr_to_styled_truth_db": mean(styled)}
