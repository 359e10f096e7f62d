"""Attention by torch's own kernels, limited to the proven backends if a plan names them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
_IN_ORDER = {"set_priority": True} if "set_priority" in inspect.signature(sdpa_kernel).parameters else {}
"""Tells torch to prefer the backends in their order; the versions before 2.6 know only which are allowed."""


class Attention:
    """Attention on cards by the ``backends`` named, the first that takes the shapes; none named means torch's choice.

    On the CPU torch chooses.
    """

    def __init__(self, backends: Sequence[str] = ()) -> None:
        self._backends = [BACKENDS[name] for name in backends]

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return [queries, heads * d] from q [queries, heads, d] and k, v [keys, heads, d]."""
        queries, keys, values = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        with self._allowed(q.device):
            attended = functional.scaled_dot_product_attention(queries, keys, values)
        return attended[0].transpose(0, 1).flatten(1)

    def _allowed(self, device: torch.device) -> AbstractContextManager[object]:
        if not self._backends or device.type != "cuda":
            return nullcontext()
        return sdpa_kernel(self._backends, **_IN_ORDER)
