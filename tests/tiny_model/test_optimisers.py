"""Muon, the moving average, the learning rate's shape, and all updates together."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
import torch
from torch import nn

from tools.tiny_model.optimisers import Ema, Muon, as_matrix, learning_rate_factor, orthogonalised
from tools.tiny_model.weight_updates import Rates, WeightUpdates


def test_learning_rate_rises_stays_and_falls():
    factors = [learning_rate_factor(progress / 100, warm_up=0.1, decay=0.5, floor=0.02) for progress in range(101)]
    assert factors[0] == 0
    assert factors[10:50] == [1.0] * 40
    assert factors[100] == pytest.approx(0.02)
    assert all(later <= earlier for earlier, later in pairwise(factors[50:]))


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 32, 8), (2, 8, 32)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    matrices = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalised(matrices))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_muon_changes_only_the_newest_slice_of_a_causal_kernel():
    weight = torch.ones(16, 16, 3, 3, 3)
    weight.grad = torch.randn_like(weight)
    Muon([weight], torch.tensor(0.1)).step()
    assert (weight[:, :, :-1] == 1).all()
    assert not (as_matrix(weight) == 1).any()


def test_average_follows_and_gives_the_weights_back():
    weight = nn.Parameter(torch.zeros(3))
    ema = Ema([weight], decay=0.9)
    with torch.no_grad():
        weight.fill_(1.0)
    for _ in range(200):
        ema.update()
    with torch.no_grad():
        weight.fill_(5.0)
    with ema.applied():
        assert weight.detach().allclose(torch.ones(3), atol=1e-3)
    assert (weight == 5).all()


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 8))


def updates_of(network: nn.Sequential) -> WeightUpdates:
    return WeightUpdates([network[0].weight, network[2].weight], [network[0].bias, network[2].bias], Rates())


def train(network: nn.Sequential, updates: WeightUpdates, steps: range) -> float:
    loss = torch.zeros(())
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        inputs, wanted = torch.randn(64, 16, generator=generator), torch.ones(64, 8)
        updates.set_factor(1.0)
        loss = (network(inputs) - wanted).square().mean()
        loss.backward()
        updates.step()
    return loss.item()


def test_updates_lower_the_loss(network):
    updates = updates_of(network)
    first = train(network, updates, range(1))
    assert train(network, updates, range(1, 200)) < 0.8 * first


def test_making_updates_changes_no_weight(network):
    before = [param.clone() for param in network.parameters()]
    updates_of(network)
    assert all(map(torch.equal, before, network.parameters()))


def test_resumed_updates_go_on_as_unbroken_ones(network):
    updates = updates_of(network)
    train(network, updates, range(5))
    saved = io.BytesIO()
    torch.save(updates.state(), saved)
    unbroken = train(network, updates, range(5, 10))

    torch.manual_seed(9)
    again = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 8))
    resumed = updates_of(again)
    saved.seek(0)
    resumed.load(torch.load(saved, weights_only=True))
    assert train(again, resumed, range(5, 10)) == unbroken
    with updates.ema.applied(), resumed.ema.applied():
        assert all(map(torch.equal, network.parameters(), again.parameters()))
