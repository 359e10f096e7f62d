"""What a block asks of its operations, and the plain torch version of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from qied.engine.ops.attention import Attention
from qied.engine.ops.linear import Activation, LinearKind
from qied.engine.ops.low_rank import Scaled
from qied.engine.ops.norms import modulated_norm, rotated_norm
from qied.engine.packed_block import PackedLinear, StreamWeights


class Operations(Protocol):
    """The operations of a block, on rows of tokens; tensors are of the compute type unless said otherwise.

    With ``keep``, the input of a linear is there unquantised as well, for branches beside that linear.
    """

    def norm_modulate(self, x: Tensor, shift: Tensor, scale: Tensor, *, keep: bool = False) -> Activation:
        """Layer-normalise ``x`` [rows, D] and modulate it by shift and scale [D], as the input of a linear."""

    def prepare(self, x: Tensor, *, keep: bool = False) -> Activation:
        """Make ``x`` [rows, inputs] the input of a linear."""

    def activate(self, x: Tensor, *, keep: bool = False) -> Activation:
        """Put ``x`` [rows, F], which is overwritten, through the GELU (tanh), as the input of a linear."""

    def linear(self, x: Activation, weights: PackedLinear, branches: Sequence[Scaled] = ()) -> Tensor:
        """Return [rows, outputs]: the linear's, and what ``branches`` add to them."""

    def split_heads(
        self, qkv: Tensor, weights: StreamWeights, rotation: Tensor, q: Tensor, k: Tensor, v: Tensor
    ) -> None:
        """Write the normalised, rotated queries and keys and the values of [rows, 3D] to q, k, v [rows, heads, d].

        ``rotation`` is complex64 [rows, d / 2].
        """

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return [queries, heads * d] from q [queries, heads, d] and k, v [keys, heads, d]."""

    def add_gated(self, x: Tensor, update: Tensor, gate: Tensor) -> None:
        """Add ``update`` [rows, D] times ``gate`` [D] to ``x`` in place."""


class TorchOperations:
    """See :class:`Operations`; nothing but torch's own kernels, on every device."""

    def __init__(self, linears: LinearKind, attention: Attention) -> None:
        self._linears = linears
        self._attention = attention

    def norm_modulate(self, x: Tensor, shift: Tensor, scale: Tensor, *, keep: bool = False) -> Activation:
        """See :class:`Operations`."""
        return self._linears.prepare(modulated_norm(x, shift, scale), keep=keep)

    def prepare(self, x: Tensor, *, keep: bool = False) -> Activation:
        """See :class:`Operations`."""
        return self._linears.prepare(x, keep=keep)

    def activate(self, x: Tensor, *, keep: bool = False) -> Activation:
        """See :class:`Operations`."""
        return self._linears.prepare(torch.ops.aten.gelu_(x, approximate="tanh"), keep=keep)

    def linear(self, x: Activation, weights: PackedLinear, branches: Sequence[Scaled] = ()) -> Tensor:
        """See :class:`Operations`."""
        outputs = self._linears.apply(x, weights)
        for branch in branches:
            branch.add_to(outputs, x)
        return outputs

    def split_heads(
        self, qkv: Tensor, weights: StreamWeights, rotation: Tensor, q: Tensor, k: Tensor, v: Tensor
    ) -> None:
        """See :class:`Operations`."""
        queries, keys, values = qkv.view(len(qkv), 3, *q.shape[1:]).unbind(1)
        rotated_norm(queries, weights.q_norm, rotation, q)
        rotated_norm(keys, weights.k_norm, rotation, k)
        v.copy_(values)

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See :class:`Operations`."""
        return self._attention(q, k, v)

    def add_gated(self, x: Tensor, update: Tensor, gate: Tensor) -> None:
        """See :class:`Operations`."""
        x.addcmul_(update, gate)
