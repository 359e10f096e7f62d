"""The transformer as a GGUF file of one type would hold it, without the file: made of the model's own weights."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from qied.engine.block.packed import BLOCKS as BLOCK_PREFIX
from qied.engine.weights.sources import TensorSource
from qied.engine.weights.stored_weight import StoredWeight
from qied.weights.gguf_types import BLOCKS
from tools.gguf_quantise import quantise_blocks


class GgufSource:
    """The tensors of another source, all matrices of the blocks (the modulation's too) in one of GGUF's types.

    From ``stored`` on all is as with a file: the loader is given the same blocks of bytes.
    """

    def __init__(self, source: TensorSource, kind: str) -> None:
        self.component = source.component
        self.nbytes = source.nbytes
        self._source = source
        self._kind = kind

    def names(self) -> Collection[str]:
        """Names of all tensors."""
        return self._source.names()

    def origin(self, name: str) -> str:
        """Where a tensor comes from."""
        return self._source.origin(name)

    def read(self, name: str) -> Tensor:
        """Return a tensor, expanded to FP32 where it consists of blocks."""
        return self.stored(name).dense()

    def stored(self, name: str) -> StoredWeight:
        """Return a tensor as a file of this type has it."""
        weight = self._source.stored(name)
        if not name.startswith(BLOCK_PREFIX) or len(weight.shape) != 2:
            return weight
        if self._kind not in BLOCKS:
            assert self._kind == "F16"
            return StoredWeight(weight.dense().to(torch.float16))
        return StoredWeight(quantise_blocks(weight.dense(), self._kind), kind=self._kind)

    def release(self) -> None:
        """Let go of what the other source has mapped."""
        self._source.release()
