"""Noise levels, time channels and the weighted error of flow matching."""

from __future__ import annotations

import torch

from tools.tiny_model.denoiser import time_channels
from tools.tiny_model.flow import mixed_time_channels, sample_noise_levels, weighted_error

CPU = torch.device("cpu")


def test_noise_levels_are_in_range_mostly_high_and_some_all_noise():
    torch.manual_seed(0)
    levels = sample_noise_levels(20_000, 0.2, CPU)
    assert levels.min() > 0 and levels.max() == 1
    assert 0.04 < (levels == 1).float().mean() < 0.06
    assert levels.median() > 0.55
    assert (levels < 0.1).float().mean() > 0.01


def test_with_an_even_share_of_one_every_level_is_as_likely():
    torch.manual_seed(0)
    levels = sample_noise_levels(20_000, 1.0, CPU)
    below = levels[levels < 1]
    assert abs(below.mean() - 0.5) < 0.02
    assert abs((below < 0.25).float().mean() - 0.25) < 0.02


def test_time_channels_come_in_both_roundings():
    torch.manual_seed(0)
    levels = torch.full((64,), 0.7137)
    mixed = mixed_time_channels(levels)
    kinds = [time_channels(levels[:1], dtype)[0] for dtype in (torch.float32, torch.bfloat16)]
    found = {next(index for index, kind in enumerate(kinds) if torch.equal(row, kind)) for row in mixed}
    assert found == {0, 1}


def test_edited_tokens_count_more():
    wanted = torch.zeros(1, 4, 2)
    velocity = torch.tensor([[[1.0, 1.0], [2.0, 2.0], [0.0, 0.0], [0.0, 0.0]]])
    changed = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    error, parts = weighted_error(velocity, wanted, changed, 3.0)
    assert error == (1 + 3 * 4) / (3 + 3)
    assert parts.tolist() == [torch.tensor(1 / 3).item(), 4.0]
    assert weighted_error(velocity, wanted, torch.zeros(1, 4), 3.0)[1][1] == 0
