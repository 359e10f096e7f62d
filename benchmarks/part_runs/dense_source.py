"""A base for sources of weights that are made, not read from files."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from qied.engine.weights.stored_weight import StoredWeight


class DenseSource(ABC):
    """What a source that has nothing quantised need not say itself."""

    @abstractmethod
    def read(self, name: str) -> Tensor:
        """Return a tensor."""

    def stored(self, name: str) -> StoredWeight:
        """The tensor as :meth:`read` gives it."""
        return StoredWeight(self.read(name))

    def release(self) -> None:  # noqa: B027 - few have anything to let go of
        """Nothing is mapped."""
