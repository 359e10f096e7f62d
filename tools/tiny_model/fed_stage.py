"""What the stages that learn from edits share: their feeds, their measures on the way, and how they are resumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tools.tiny_model.picture_feed import PictureFeed
from tools.tiny_model.running_mean import RunningMean
from tools.tiny_model.stage import random_state, restore_random_state, seed_everything
from tools.tiny_model.weight_updates import WeightUpdates


class FedStage:
    """State of a stage with ``feeds`` by their number of pictures; see ``Stage``."""

    def __init__(
        self,
        updates: WeightUpdates,
        means: RunningMean,
        feeds: Mapping[int, PictureFeed],
        device: torch.device,
    ) -> None:
        self._updates, self._means, self._feeds, self._device = updates, means, feeds, device

    def _begin(self, seed: int) -> None:
        """Forget what recording the steps has left."""
        self._updates.reset()
        self._means.reset()
        seed_everything(seed)

    def measures(self) -> dict[str, float]:
        """Smoothed losses and norm of the gradient."""
        return self._means.values()

    def state(self) -> dict[str, Any]:
        """See ``Stage``."""
        return {
            "updates": self._updates.state(),
            "means": self._means.state(),
            "numbers": {pictures: feed.number for pictures, feed in self._feeds.items()},
            "random": random_state(self._device),
        }

    def load(self, state: dict[str, Any]) -> None:
        """See ``Stage``."""
        self._updates.load(state["updates"])
        self._means.load(state["means"])
        for pictures, number in state["numbers"].items():
            self._feeds[pictures].resume(number)
        restore_random_state(state["random"], self._device)
