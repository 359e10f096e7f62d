"""Low-rank branches next to a linear, which is what a LoRA is: the weights themselves stay as they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRankShare:
    """What a branch adds to some outputs of its linear: ``up`` [outputs, rank] times ``ranks`` of its values."""

    outputs: slice
    ranks: slice
    up: Tensor


@dataclass(frozen=True)
class Branch:
    """One LoRA of one linear: ``down`` [ranks, inputs], then the share of each module that the linear is made of.

    Tensors are of the compute type; alpha and rank are in ``down`` already.
    """

    down: Tensor
    shares: tuple[LowRankShare, ...]


@dataclass(frozen=True)
class Scaled:
    """A branch with the strength that an edit uses it at."""

    branch: Branch
    strength: float

    @property
    def key(self) -> tuple[object, ...]:
        """Everything that a CUDA graph of this branch depends on: where its matrices lie, their sizes, the strength."""
        matrices = (self.branch.down, *(share.up for share in self.branch.shares))
        return (self.strength, *((matrix.data_ptr(), matrix.shape) for matrix in matrices))

    def add_to(self, outputs: Tensor, x: Tensor, scratch: Tensor | None = None) -> None:
        """Add the branch's values of ``x`` [rows, inputs] to ``outputs`` [rows, outputs] in place.

        They are written to ``scratch`` [at least rows, at least ranks] in between, where there is one. Each product is
        summed up in FP32; the sum with ``outputs`` is rounded once.
        """
        rows, ranks = len(x), len(self.branch.down)
        values = x.new_empty(rows, ranks) if scratch is None else scratch.view(-1)[: rows * ranks].view(rows, ranks)
        torch.mm(x, self.branch.down.t(), out=values)
        for share in self.branch.shares:
            outputs[:, share.outputs].addmm_(values[:, share.ranks], share.up.t(), alpha=self.strength)
