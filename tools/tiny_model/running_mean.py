"""Smoothed measures of a training, kept on the device so that no step waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

NEWEST_SHARE = 0.02
"""Share of the newest step in the mean, once there are enough."""


class RunningMean:
    """Exponential means of named values; of the first steps it is the plain mean. ``add`` can be recorded."""

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self._names = tuple(names)
        self._means = torch.zeros(len(names), device=device)
        self._seen = torch.zeros((), device=device)

    def add(self, values: Sequence[Tensor]) -> None:
        """Take in one step: 0-dim tensors in the order of the names."""
        self._seen += 1
        self._means.lerp_(torch.stack([value.detach() for value in values]), (1 / self._seen).clamp(min=NEWEST_SHARE))

    def reset(self) -> None:
        """Forget all steps."""
        self._means.zero_()
        self._seen.zero_()

    def values(self) -> dict[str, float]:
        """The means by name; waits for the device."""
        return dict(zip(self._names, self._means.tolist(), strict=True))

    def state(self) -> dict[str, Any]:
        """The tensors themselves."""
        return {"means": self._means, "seen": self._seen}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave, in place."""
        self._means.copy_(state["means"])
        self._seen.copy_(state["seen"])
