"""The byte ledger of one worker: promised and free bytes, and whether one more job fits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qied.scheduling.model import JobCost, WorkerOffer


@dataclass(frozen=True, slots=True)
class Ledger:
    """Bytes of one worker: budget, weights, the sum of all sessions' state, the largest arena of any of them.

    Jobs take turns on the GPU, so one arena, the largest, serves them all; state is held by each.
    """

    budget_bytes: int
    weights_bytes: int
    state_bytes: int
    arena_bytes: int
    kind: str = ""

    @property
    def promised_bytes(self) -> int:
        """Bytes that the active jobs may use together with the weights."""
        return self.weights_bytes + self.state_bytes + self.arena_bytes

    @property
    def free_bytes(self) -> int:
        """Bytes of the budget that are not promised."""
        return self.budget_bytes - self.promised_bytes

    def fits(self, cost: JobCost) -> bool:
        """Whether the promises stay within the budget if this job is added."""
        state, arena = cost.on(self.kind)
        return self.weights_bytes + self.state_bytes + state + max(self.arena_bytes, arena) <= self.budget_bytes


def ledger_of(offer: WorkerOffer, costs: Iterable[JobCost] = (), withheld_bytes: int = 0) -> Ledger:
    """Sum up a worker's ledger from the costs of its active jobs; always derived, so it cannot drift."""
    state, arena = 0, 0
    for cost in costs:
        its_state, its_arena = cost.on(offer.kind)
        state += its_state
        arena = max(arena, its_arena)
    return Ledger(offer.budget_bytes - withheld_bytes, offer.weights_bytes, state, arena, offer.kind)
