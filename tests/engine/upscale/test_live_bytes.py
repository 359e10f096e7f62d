"""Bytes of a computation, counted: what is held at once, on any device; and the plan's own formulas beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from qied.engine.upscale.live_bytes import live_bytes
from qied.engine.upscale.networks import network_of
from qied.planning.edits.upscaling import MARGIN_PX, UpscalerFacts, upscale_bytes
from tests.upscalers.test_contents import KINDS, RRDB

LARGE = {**KINDS, "ESRGAN": UpscalerFacts("rrdb", 4, 64, 32, 2, 1, 0), "4x with growth": replace(RRDB, growth=16)}


def test_what_is_let_go_of_does_not_count_and_views_count_once() -> None:
    pictures = torch.zeros(1, 3, 8, 8)

    def network(given: torch.Tensor) -> torch.Tensor:
        made = given + 1
        for _ in range(5):
            made = made * 2  # the one before goes
        return made.reshape(-1)[:5].clone()

    assert live_bytes(network, pictures) == 3 * pictures.nbytes


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_both_devices_count_the_same(device: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1)).to(device)
    pictures = torch.zeros(1, 3, 16, 16, device=device)
    assert live_bytes(network, pictures) == 4 * 16**2 * (3 + 8 + 8)


@pytest.mark.parametrize("facts", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("tile", [64, 512])
def test_the_plan_counts_no_less_than_a_network_takes(facts: UpscalerFacts, tile: int) -> None:
    side = tile + 2 * MARGIN_PX
    network = network_of(facts).eval()
    counted = live_bytes(network, torch.zeros(1, 3, side, side, device="meta"))
    assert counted <= upscale_bytes(facts, tile) <= 4 * counted + 10**6
