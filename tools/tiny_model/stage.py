"""What a stage of the training is to the loop that runs it, and where its random numbers come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

STAGES = ("codec", "text", "edit", "settle", "lightning", "outline")
"""Names of all stages, in order."""


class Stage(Protocol):
    """One part of the training: a fixed number of steps, which may be spread over several runs.

    A run that is broken off after ``state`` and goes on from ``load`` makes the steps of an unbroken one.
    """

    name: str
    total: int

    def advance(self, step: int) -> None:
        """Make step number ``step`` (from 0); on a GPU it may still be under way at the return."""

    def measures(self) -> dict[str, float]:
        """Smoothed losses and the like, after waiting for the steps under way."""

    def validate(self) -> dict[str, float]:
        """Measures of the averaged weights on held-out data."""

    def state(self) -> dict[str, Any]:
        """All that changes from step to step, random states included, for ``torch.save``."""

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` gave."""

    def finish(self, folder: Path) -> dict[str, float]:
        """Write the averaged weights below ``folder`` and return measures of them."""


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """State of torch's default generators of the CPU and of ``device``."""
    state = {"cpu": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def restore_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Take over what ``random_state`` gave."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def seed_everything(seed: int) -> None:
    """Seed torch's default generators of the CPU and of every GPU."""
    torch.manual_seed(seed)
