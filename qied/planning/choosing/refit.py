"""A plan fitted to another budget of the same card, when its worker starts again and others hold more or less of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qied.planning.layout.memory import RING_SLOTS
from qied.planning.plan import Execution


@dataclass(frozen=True)
class Refitted:
    """An execution and the bytes that it takes whether an edit runs or not."""

    execution: Execution
    fixed_bytes: int


def refit(
    execution: Execution, *, fixed_bytes: int, edits_bytes: int, block_bytes: int, budget_bytes: int, context_bytes: int
) -> Refitted | None:
    """Keep as many blocks on the card as ``budget_bytes`` allow; None where not even a ring fits.

    ``fixed_bytes`` were planned for everything but edits, ``edits_bytes`` for those. Nothing else changes: what an edit
    takes and gives stays as it was priced when it was accepted.
    """
    held = execution.resident_blocks + execution.ring_slots
    rest = fixed_bytes - held * block_bytes
    blocks = (budget_bytes - rest - edits_bytes) // block_bytes
    if blocks >= execution.total_blocks:
        resident, ring = execution.total_blocks, 0
    else:
        resident, ring = blocks - RING_SLOTS, RING_SLOTS
    if resident < 0:
        return None
    changed = replace(
        execution,
        resident_blocks=resident,
        ring_slots=ring,
        pin=execution.pin or execution.ring_slots == 0,
        allocator_bytes=budget_bytes - context_bytes,
    )
    return Refitted(changed, rest + (resident + ring) * block_bytes)
