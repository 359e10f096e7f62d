"""LoRAs in planning: the memory that each takes, and the room that a worker keeps for them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class LoraFacts:
    """The size of a LoRA, and whether it can be used.

    ``parameters`` are on the device while an edit uses it, ``width`` is the most values that a token has between its
    two matrices. ``steps`` is the number of steps that a Lightning LoRA was made for, ``version`` that of the model
    which it names (2511, say), if any. ``problem`` and ``remedy`` tell why a file cannot be used; then the numbers are
    0. ``rank`` is the largest of its changes, ``bytes`` the size of its file. ``note`` is a sentence on what of the
    file is not used; empty where all of it is.
    """

    parameters: int = 0
    width: int = 0
    steps: int | None = None
    version: str | None = None
    problem: str | None = None
    remedy: str = ""
    rank: int = 0
    bytes: int = 0
    note: str = ""


@dataclass(frozen=True)
class LoraRoom:
    """What a worker keeps free for LoRAs: so many parameters at once, and temporaries of so many values a token."""

    parameters: int = 0
    width: int = 0


NO_LORAS = LoraRoom()


def room_for(loras: Iterable[LoraFacts], at_once: int) -> LoraRoom:
    """Room for any ``at_once`` of these LoRAs together; those of other edits make way for those of the running step."""
    facts = list(loras)
    largest = sorted((lora.parameters for lora in facts), reverse=True)[:at_once]
    return LoraRoom(sum(largest), max((lora.width for lora in facts), default=0))
