"""Runs the rows one after the other and collects what they give in one report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from quality_bench import rows, sets
from quality_bench.jobs import Job, Outcome
from quality_bench.measures import Figures, by_group, difference, drift, mean, style
from quality_bench.rows import Row
from quality_bench.sets import Session
from quality_bench.workers import Workers
from tools.tiny_model.scenes import Scene

PACK = 4
"""Sessions of a mixed row that advance together."""

VAE_FORWARDS = 3
"""A picture through the VAE and back takes about as long as this many forwards."""

OnWork = Callable[[str, int], None]
"""Called with the name of a row and how many forwards of it are done since the last call."""


@dataclass(frozen=True)
class Measured:
    """A row's sessions by number, and every outcome, by session and turn."""

    row: Row
    sessions: Mapping[int, Session]
    outcomes: tuple[Outcome, ...]
    seconds: float

    def pictures(self) -> dict[int, Image.Image]:
        """The results that were kept, by session."""
        return {outcome.session: outcome.picture for outcome in self.outcomes if outcome.picture is not None}


def sessions_of(row: Row, limit: int | None) -> list[Session]:
    """The sessions of a row's set."""
    if row.set == "two pictures":
        return sets.two_picture_edits(limit)
    return sets.turns(limit) if row.set == "turns" else sets.single_edits(limit)


def forwards_of(row: Row, sessions: Sequence[Session]) -> int:
    """Forwards of the transformer that a row takes."""
    return sum(len(session.edits) for session in sessions) * row.steps * (2 if row.cfg > 1 else 1)


def run_row(row: Row, workers: Workers, limit: int | None, keep: frozenset[int], on_work: OnWork) -> Measured:
    """Run all sessions of a row; pictures of the sessions in ``keep`` stay."""
    started = time.monotonic()
    sessions = {session.number: session for session in sessions_of(row, limit)}
    outcomes: list[Outcome] = []
    for done in workers.outcomes(_jobs(row, list(sessions.values()), keep)):
        outcomes += done
        on_work(row.name, forwards_of(row, [sessions[outcome.session] for outcome in done if outcome.turn == 0]))
    outcomes.sort(key=lambda outcome: (outcome.session, outcome.turn))
    return Measured(row, sessions, tuple(outcomes), time.monotonic() - started)


def _jobs(row: Row, sessions: Sequence[Session], keep: frozenset[int]) -> Iterator[Job]:
    """Every session alone; those of a mixed row in packs in which every second one has the LoRA."""
    if row.set != "mixed":
        yield from (Job(row, (session,), (row.lora is not None,), keep) for session in sessions)
        return
    for start in range(0, len(sessions), PACK):
        pack = tuple(sessions[start : start + PACK])
        first = start // PACK % 2
        yield Job(row, pack, tuple((place + first) % 2 == 0 for place in range(len(pack))), keep)


def row_report(measured: Measured, others: Mapping[str, Measured]) -> Figures:
    """Everything that a report says of one row; ``others`` are those measured before it, by name."""
    row, main = measured.row, others.get(rows.MAIN)
    plain = row.lora != "style"
    compared = main is not None and plain and row.set == "held-out" and row.name != rows.MAIN
    single = plain and row.set in ("held-out", "two pictures")
    return {
        "name": row.name,
        "precision": row.precision,
        "steps": row.steps,
        "cfg": row.cfg,
        "lora": row.lora,
        "set": row.set,
        "seconds": measured.seconds,
        "groups": by_group(measured.sessions, measured.outcomes) if single else {},
        "against_bf16": difference(measured.sessions, measured.outcomes, main.outcomes) if compared and main else None,
        "drift": drift(measured.outcomes) if row.set == "turns" else None,
        "style": style(measured.outcomes) if row.name == rows.MAIN or not plain else None,
        "same_as_alone": _same_as_alone(measured, others) if row.set == "mixed" else None,
        "failures": _failures(measured) if row.name == rows.MAIN else [],
    }


def _same_as_alone(measured: Measured, others: Mapping[str, Measured]) -> Figures:
    """How many results of a mixed row have the very pixels that they have where each session runs alone."""
    alone = {
        (outcome.session, outcome.with_lora): outcome.digest
        for name in (rows.MAIN, rows.STYLE)
        if name in others
        for outcome in others[name].outcomes
    }
    pairs = [(outcome.digest, alone.get((outcome.session, outcome.with_lora))) for outcome in measured.outcomes]
    return {
        "count": sum(other is not None for _, other in pairs),
        "same": sum(mine == other for mine, other in pairs),
    }


def _failures(measured: Measured) -> list[Figures]:
    failed = []
    for outcome in measured.outcomes:
        edit = measured.sessions[outcome.session].edits[outcome.turn]
        if not outcome.score.success:
            failed.append({"edit": outcome.session, "task": edit.task, "instruction": edit.instruction})
    return failed


def vae_report(workers: Workers, limit: int | None, *, bf16: bool, on_work: OnWork) -> Figures:
    """PSNR of encoding and decoding the sources and the truths of the held-out set: mean, and the worst one."""
    found = []
    for value in workers.vae_psnr(vae_scenes(limit), bf16=bf16):
        found.append(value)
        on_work(rows.VAE, VAE_FORWARDS)
    return {"pictures": len(found), "mean_db": mean(found), "worst_db": min(found)}


def vae_scenes(limit: int | None) -> list[Scene]:
    """The sources and truths of the held-out set, each once."""
    edits = [session.edits[0] for session in sets.single_edits(limit)]
    return list(dict.fromkeys(scene for edit in edits for scene in (edit.source, edit.target)))
