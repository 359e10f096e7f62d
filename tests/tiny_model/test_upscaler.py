"""The training of the small upscaler, for a few steps."""

from __future__ import annotations

import torch

from qied.engine.upscale.networks import Compact
from tools.tiny_model import upscaler


def test_some_steps_bring_halved_scenes_nearer_to_the_truth() -> None:
    torch.manual_seed(0)
    large = upscaler.pictures(2, seed=3)
    network = Compact(upscaler.FACTS)

    def near() -> float:
        with torch.inference_mode():
            return upscaler.psnr(network(upscaler.halved(large)), large)

    before = near()
    upscaler.trained(network, large, steps=8)
    assert near() > before
