"""Changes of a small journal that its tests have in common, and a journal that is closed and opened again."""

from collections.abc import Sequence
from pathlib import Path

from qied.server.journal.changes import (
    AcceptJob,
    AddTurn,
    Change,
    JobNote,
    OpenSession,
    StoreNote,
    StoreOutcome,
)
from qied.server.journal.journal import Journal

SOURCE, RESULT = "a" * 64, "b" * 64


def accept(job: str = "one", order: int = 1, user: str = "ann", session: str | None = None) -> AcceptJob:
    return AcceptJob(user, job, order, f"hash of {job}", b"request", b"spec", session, None, None, (SOURCE,), 10.0)


def outcome(job: str = "one", user: str = "ann", finished_at: float = 20.0, seed: int = 7) -> StoreOutcome:
    return StoreOutcome(
        user, job, "succeeded", RESULT, 123, "image/png", seed, b"timings", None, None, None, finished_at
    )


def note(job: str = "one", user: str = "ann", finished_at: float = 20.0) -> JobNote:
    return JobNote(user, job, 1, "succeeded", "a red hat", 7, 10.0, finished_at, ("Few steps.", "No LoRA."))


async def turn_with_a_note(journal: Journal) -> None:
    await journal.apply(OpenSession("ann", "s", SOURCE, 1.0), accept(session="s"))
    await journal.apply(AddTurn("ann", "s", 1, "one", 0, 2.0))
    assert await journal.apply(outcome(), StoreNote(note(), b"jpeg")) == (True, True)


async def reopened(journal: Journal, path: Path) -> Journal:
    await journal.close()
    return Journal.open(path)


async def write_and_close(path: Path, changes: Sequence[Change]) -> None:
    journal = Journal.open(path)
    await journal.apply(*changes)
    await journal.close()
