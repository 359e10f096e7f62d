"""Which steps go together in one sweep over the blocks: the memory that each adds must fit its room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StepNeeds:
    """What one edit's next step adds to those of others, in bytes of the device; ``loras`` by name.

    Steps with the same LoRA use the same bytes of it.
    """

    bytes: int
    loras: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepRoom:
    """Room for steps that go together, in bytes of the device: their own, and their LoRAs."""

    bytes: int
    lora_bytes: int


def going_together(needs: Sequence[StepNeeds | None], room: SweepRoom) -> int:
    """Return how many of the first of ``needs`` go together; None stands for a unit that is not a step, and goes alone.

    The first one always goes. No step goes before one that is ahead of it, however little it takes: see ``FairShare``.
    """
    taken, loras = 0, dict[str, int]()
    for count, step in enumerate(needs):
        if step is None:
            return max(1, count)
        taken += step.bytes
        loras.update(step.loras)
        if count and (taken > room.bytes or sum(loras.values()) > room.lora_bytes):
            return count
    return len(needs)
