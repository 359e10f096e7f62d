"""Branches next to a linear, which is what a LoRA is: the weights themselves stay as they are."""

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
class KroneckerShare:
    """What a Kronecker product adds to some outputs: ``left`` [o1, i1] times ``right`` [o2, i2], never multiplied out.

    An input x of i1 * i2 values, seen as a matrix X [i1, i2], gives left X right^T, a matrix [o1, o2].
    """

    outputs: slice
    left: Tensor
    right: Tensor

    @property
    def right_first(self) -> bool:
        """Whether X meets ``right`` first: the order with fewer values in between."""
        (o1, i1), (o2, i2) = self.left.shape, self.right.shape
        return i1 * o2 <= o1 * i2

    @property
    def width(self) -> int:
        """Values of a row in between."""
        (o1, i1), (o2, i2) = self.left.shape, self.right.shape
        return min(i1 * o2, o1 * i2)

    def add_to(self, outputs: Tensor, x: Tensor, strength: float, scratch: Tensor | None) -> None:
        """Add its share of ``x`` [rows, inputs] to ``outputs`` [rows, outputs of the linear] in place."""
        rows = len(x)
        (o1, i1), (o2, i2) = self.left.shape, self.right.shape
        left, right = self.left.expand(rows, o1, i1), self.right.t().expand(rows, i2, o2)
        parts = x.view(rows, i1, i2)
        between = _room(x, rows, self.width, scratch).view(rows, *((i1, o2) if self.right_first else (o1, i2)))
        target = outputs[:, self.outputs].view(rows, o1, o2)
        if self.right_first:
            torch.bmm(parts, right, out=between)
            target.baddbmm_(left, between, alpha=strength)
        else:
            torch.bmm(left, parts, out=between)
            target.baddbmm_(between, right, alpha=strength)


@dataclass(frozen=True)
class BiasShare:
    """What a branch adds to some outputs of every row: ``values`` [outputs]."""

    outputs: slice
    values: Tensor


@dataclass(frozen=True)
class Branch:
    """One LoRA of one linear: ``down`` [ranks, inputs], then the share of each module that the linear is made of.

    Tensors are of the compute type; alpha and rank are in ``down`` already, or in the left factor of ``kroneckers``.
    """

    down: Tensor
    shares: tuple[LowRankShare, ...]
    kroneckers: tuple[KroneckerShare, ...] = ()
    biases: tuple[BiasShare, ...] = ()

    @property
    def width(self) -> int:
        """Values of a row between two matrices, at most."""
        return max(len(self.down), *(share.width for share in self.kroneckers), 0)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of its tensors, in a fixed order."""
        factors = (factor for share in self.kroneckers for factor in (share.left, share.right))
        return (self.down, *(share.up for share in self.shares), *factors, *(share.values for share in self.biases))


@dataclass(frozen=True)
class Scaled:
    """A branch with the strength that an edit uses it at."""

    branch: Branch
    strength: float

    @property
    def key(self) -> tuple[object, ...]:
        """Everything that a CUDA graph of this branch depends on: where its matrices lie, their sizes, the strength."""
        return (self.strength, *((tensor.data_ptr(), tensor.shape) for tensor in self.branch.tensors))

    def add_to(self, outputs: Tensor, x: Tensor, scratch: Tensor | None = None) -> None:
        """Add the branch's values of ``x`` [rows, inputs] to ``outputs`` [rows, outputs] in place.

        They are written to ``scratch`` [at least rows, at least the branch's width] in between, where there is one.
        Each product is summed up in FP32; the sum with ``outputs`` is rounded once.
        """
        rows, ranks = len(x), len(self.branch.down)
        if ranks:
            values = _room(x, rows, ranks, scratch)
            torch.mm(x, self.branch.down.t(), out=values)
            for share in self.branch.shares:
                outputs[:, share.outputs].addmm_(values[:, share.ranks], share.up.t(), alpha=self.strength)
        for kronecker in self.branch.kroneckers:
            kronecker.add_to(outputs, x, self.strength, scratch)
        for bias in self.branch.biases:
            outputs[:, bias.outputs].add_(bias.values, alpha=self.strength)


def _room(x: Tensor, rows: int, width: int, scratch: Tensor | None) -> Tensor:
    """Room for ``width`` values of each row."""
    return x.new_empty(rows, width) if scratch is None else scratch.view(-1)[: rows * width].view(rows, width)
