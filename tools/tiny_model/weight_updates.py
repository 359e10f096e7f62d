"""One update of all weights of a stage: clipping, Muon for matrices, AdamW for the rest, the moving average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tools.tiny_model.optimisers import Ema, Muon

ADAM_BETAS = (0.9, 0.98)


@dataclass(frozen=True)
class Rates:
    """Learning rates at their height, decay of weights, decay of the moving average, largest norm of the gradient."""

    muon: float = 2e-3
    adam: float = 1e-3
    weight_decay: float = 0.01
    ema: float = 0.999
    clip: float = 1.0


class WeightUpdates:
    """Updates ``matrices`` and ``others`` from their ``grad``, which exists from the start and is zeroed by ``step``.

    ``step`` can be recorded in a CUDA graph: nothing in it is allocated anew, and rates are read from the device.
    """

    def __init__(self, matrices: Sequence[Tensor], others: Sequence[Tensor], rates: Rates) -> None:
        self.params = [*matrices, *others]
        self._rates = rates
        device = self.params[0].device
        self.gradients = torch.zeros(sum(param.numel() for param in self.params), device=device)
        """All gradients one after the other: each weight's ``grad`` is a part of it."""
        sizes = [param.numel() for param in self.params]
        for param, part in zip(self.params, self.gradients.split(sizes), strict=True):
            param.grad = part.view_as(param)
        self._adam_rate = torch.zeros((), device=device)
        self._muon_rate = torch.zeros((), device=device)
        self._muon = Muon(matrices, self._muon_rate, weight_decay=rates.weight_decay) if matrices else None
        groups = [
            {"params": [param for param in others if param.ndim >= 2], "weight_decay": rates.weight_decay},
            {"params": [param for param in others if param.ndim < 2], "weight_decay": 0.0},
        ]
        self._adam = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=self._adam_rate,
            betas=ADAM_BETAS,
            fused=True,
            capturable=device.type == "cuda",
        )
        self.ema = Ema(self.params, rates.ema)
        self.norm = torch.zeros((), device=device)
        self.set_factor(0.0)
        self.step()  # AdamW makes its moments in its first step
        self.reset()

    def set_factor(self, factor: float) -> None:
        """Learning rates of the next step, as a share of their height."""
        self._adam_rate.fill_(self._rates.adam * factor)
        self._muon_rate.fill_(self._rates.muon * factor)

    def step(self) -> None:
        """Update the weights and their averages, and zero the gradients."""
        self.norm.copy_(torch.nn.utils.clip_grad_norm_(self.params, self._rates.clip, foreach=True))
        self._adam.step()
        if self._muon is not None:
            self._muon.step()
        self.ema.update()
        self.gradients.zero_()

    @torch.no_grad()
    def reset(self) -> None:
        """Forget every step so far, as after the trial calls of a recording (at a rate of zero)."""
        for tensor in self._moments():
            tensor.zero_()
        self.gradients.zero_()
        self.ema.restart()

    def _moments(self) -> list[Tensor]:
        adam = [tensor for state in self._adam.state.values() for tensor in state.values()]
        return [*adam, *(self._muon.state_dict().values() if self._muon else ())]

    def state(self) -> dict[str, Any]:
        """Weights, averages, moments and the norm of the last gradient, which a stage may report one step later."""
        return {
            "params": self.params,
            "ema": self.ema.state_dict(),
            "moments": self._moments(),
            "norm": self.norm,
        }

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave, in place, as a recorded step knows these tensors only."""
        for mine, kept in zip(self.params, state["params"], strict=True):
            mine.copy_(kept)
        for mine, kept in zip(self._moments(), state["moments"], strict=True):
            mine.copy_(kept)
        self.ema.load_state_dict(state["ema"])
        self.norm.copy_(state["norm"])


def is_matrix(name: str, param: Tensor) -> bool:
    """Whether Muon updates it: the matrices inside blocks, but not modulation, embeddings and the ends."""
    inner = any(part in name for part in ("transformer_blocks.", "layers.", "blocks.", "merger."))
    return param.ndim == 2 and inner and not any(part in name for part in ("_mod.", "norm", "embed"))


def split_parameters(*modules: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Trained parameters for Muon and for AdamW."""
    named = [item for module in modules for item in module.named_parameters() if item[1].requires_grad]
    return (
        [param for name, param in named if is_matrix(name, param)],
        [param for name, param in named if not is_matrix(name, param)],
    )
