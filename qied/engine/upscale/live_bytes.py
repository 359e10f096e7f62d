"""How many bytes of tensors a computation has at once, counted operation by operation on any device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that operations make inside its ``with`` block, until nothing refers to them.

    ``peak`` is the most at once, after an operation, in bytes. What a kernel takes while it runs is not in it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._live: dict[int, tuple[Any, int]] = {}
        self.peak = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it made."""
        inputs = {_storage(tensor).cdata for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and (reference := _storage(tensor)).cdata not in inputs:
                self._live[reference.cdata] = reference, tensor.untyped_storage().nbytes()
        self._live = {key: each for key, each in self._live.items() if not each[0].expired()}
        self.peak = max(self.peak, sum(nbytes for _, nbytes in self._live.values()))
        return result


def _storage(tensor: Tensor) -> Any:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def live_bytes(network: Callable[[Tensor], Tensor], pictures: Tensor) -> int:
    """Bytes at the peak of a network on pictures, which are counted as well; its weights are not."""
    with torch.inference_mode(), LiveBytes() as counted:
        network(pictures)
    peak: int = counted.peak
    return peak + pictures.nbytes
