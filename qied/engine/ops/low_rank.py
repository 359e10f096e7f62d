"""Low-rank branches beside a linear, which is what a LoRA is: the weights themselves stay as they are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from qied.engine.ops.linear import Activation
from qied.engine.quantise import Quantised


@dataclass(frozen=True)
class Share:
    """What a branch adds to some outputs of its linear: ``up`` [outputs, rank] times ``ranks`` of its values."""

    outputs: slice
    ranks: slice
    up: Tensor


@dataclass(frozen=True)
class Branch:
    """One LoRA beside one linear: ``down`` [ranks, inputs], then the share of each module that the linear is made of.

    Tensors are of the compute type; alpha and rank are in ``down`` already.
    """

    down: Tensor
    shares: tuple[Share, ...]


@dataclass(frozen=True)
class Scaled:
    """A branch with the strength that an edit uses it at."""

    branch: Branch
    strength: float

    def add_to(self, outputs: Tensor, x: Activation) -> None:
        """Add the branch's values of ``x`` to ``outputs`` [rows, outputs] in place; of a quantised ``x`` its original.

        Each product is summed up in FP32; the sum with ``outputs`` is rounded once.
        """
        values = functional.linear(plain(x), self.branch.down)
        for share in self.branch.shares:
            outputs[:, share.outputs].addmm_(values[:, share.ranks], share.up.t(), alpha=self.strength)


def plain(x: Activation) -> Tensor:
    """What the activation was before it was quantised."""
    if isinstance(x, Quantised):
        assert x.original is not None, "quantised without keeping what a branch reads"
        return x.original
    return x
