"""Muon for matrices, a moving average of all weights, and the shape of the learning rate over a training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

# Coefficients of the quintic iteration of Jordan et al., "Muon: an optimizer for hidden layers" (2024).
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 5
_UPDATE_SCALE = 0.2
"""Makes an update's root mean square that of AdamW, so that both take like learning rates (Liu et al., 2025)."""


def learning_rate_factor(progress: float, warm_up: float = 0.015, decay: float = 0.4, floor: float = 0.02) -> float:
    """Factor on the learning rate at ``progress`` (0..1): linear warm-up, flat, linear decay to ``floor``."""
    if progress < warm_up:
        return progress / warm_up
    return 1.0 if progress < 1 - decay else floor + (1 - floor) * max(0.0, 1 - progress) / decay


def as_matrix(weight: Tensor) -> Tensor:
    """The part of a weight that single pictures reach, as a matrix [out, rest]: of a 3-D kernel its newest slice."""
    newest = weight[:, :, -1] if weight.ndim == 5 else weight
    return newest.reshape(newest.shape[0], -1)


class Muon:
    """Momentum with orthogonalised updates (Jordan et al., 2024), batched over matrices of one shape.

    ``learning_rate`` is a 0-dim tensor on the device of the weights: a recorded step reads it anew each time.
    """

    def __init__(
        self, params: Sequence[Tensor], learning_rate: Tensor, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        self._groups: dict[tuple[int, int], list[Tensor]] = {}
        for param in params:
            rows, columns = as_matrix(param).shape
            self._groups.setdefault((rows, columns), []).append(param)
        self._rate, self._momentum, self._decay = learning_rate, momentum, weight_decay
        self._averages = {
            shape: torch.zeros(len(group), *shape, device=group[0].device) for shape, group in self._groups.items()
        }

    @torch.no_grad()
    def step(self) -> None:
        """Update every weight from its ``grad``."""
        for shape, group in self._groups.items():
            gradient = torch.stack([as_matrix(_gradient(param)) for param in group])
            average = self._averages[shape].lerp_(gradient, 1 - self._momentum)
            update = orthogonalised(gradient.lerp(average, self._momentum))
            scale = self._rate * (_UPDATE_SCALE * max(shape) ** 0.5)
            keep = 1 - self._rate * self._decay
            for param, change in zip(group, update.unbind(0), strict=True):
                newest = param[:, :, -1] if param.ndim == 5 else param
                newest.mul_(keep).sub_(change.reshape(newest.shape) * scale)

    def state_dict(self) -> dict[str, Tensor]:
        """Momentum by shape, the tensors themselves."""
        return {f"{rows}x{columns}": average for (rows, columns), average in self._averages.items()}


def _gradient(param: Tensor) -> Tensor:
    assert param.grad is not None
    return param.grad


def orthogonalised(matrices: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrices [N, rows, columns], roughly: singular values land between 0.7 and 1.2."""
    a, b, c = _NEWTON_SCHULZ
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x.bfloat16() if x.is_cuda else x
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    for _ in range(_NEWTON_SCHULZ_STEPS):
        square = x @ x.mT
        x = a * x + torch.baddbmm(square, square, square, beta=b, alpha=c) @ x
    return (x.mT if tall else x).float()


class Ema:
    """Exponential moving average of weights; young averages follow faster."""

    def __init__(self, params: Sequence[Tensor], decay: float) -> None:
        self._params, self._decay = list(params), decay
        self._averages = [param.detach().clone() for param in params]
        device = self._params[0].device
        self._updates = torch.zeros((), device=device)

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the weights of now."""
        self._updates += 1
        share = (1 - self._updates / (self._updates + 10)).clamp(min=1 - self._decay)
        apart = torch._foreach_sub([param.detach() for param in self._params], self._averages)
        torch._foreach_mul_(apart, share)
        torch._foreach_add_(self._averages, apart)

    @torch.no_grad()
    def restart(self) -> None:
        """Begin anew from the weights of now."""
        for average, param in zip(self._averages, self._params, strict=True):
            average.copy_(param)
        self._updates.zero_()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The averages in the place of the weights, which come back afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for average, param in zip(self._averages, self._params, strict=True):
            kept = param.clone()
            param.copy_(average)
            average.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """Averages in the order of the weights and the number of updates."""
        return {"averages": self._averages, "updates": self._updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what ``state_dict`` gave."""
        for average, kept in zip(self._averages, state["averages"], strict=True):
            average.copy_(kept)
        self._updates.copy_(state["updates"])
