"""How much is measured: a full run, or a quick one that only shows that everything works."""

from __future__ import annotations

from dataclasses import dataclass

MB = 1_000_000


@dataclass(frozen=True)
class Plan:
    """Counts, seconds and bytes of a run."""

    clients: int = 200
    uploaders: int = 4
    picture_bytes: int = 50 * MB
    rounds: int = 5
    seconds: float = 8.0
    ping_s: float = 1.0
    submit_s: float = 0.1
    uploads: int = 5
    warm_up: int = 2
    edits: int = 4
    steps: int = 20


FULL = Plan()
QUICK = Plan(
    clients=20,
    uploaders=2,
    picture_bytes=2 * MB,
    rounds=1,
    seconds=0.5,
    ping_s=0.2,
    uploads=2,
    warm_up=0,
    edits=1,
    steps=2,
)
