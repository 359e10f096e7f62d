"""How much is measured: a full run, or a quick one that only shows that everything works."""

from __future__ import annotations

from dataclasses import dataclass

from qied_client.protocol import limits


@dataclass(frozen=True)
class Plan:
    """Counts and seconds of a run. ``pages`` are spread over ``users``; ``streams`` edits run at any time.

    ``uploads`` pictures of ``upload_bytes`` are sent in each round.
    """

    users: int = 5
    pages: int = 200
    streams: int = 20
    rounds: int = 5
    seconds: float = 8.0
    steps: int = 20
    warm_up: int = 4
    edits: int = 12
    uploads: int = 4
    upload_bytes: int = limits.BLOB_BYTES


FULL = Plan()
QUICK = Plan(
    users=2, pages=8, streams=4, rounds=1, seconds=1.5, steps=4, warm_up=1, edits=2, uploads=1, upload_bytes=4 << 20
)
