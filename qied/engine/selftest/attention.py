"""Trials of attention: each backend of torch's scaled dot product at the head sizes of these models."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from qied.engine.ops.attention import BACKENDS
from qied.engine.selftest.measure import ERROR_LIMITS, Clock, judged, median_seconds, relative_error
from qied.hardware.snapshot import Trial

HEAD_SIZES = (64, 128)


@dataclass(frozen=True)
class AttentionShape:
    """Queries, keys and values of one picture. Tokens that fill no power of two show kernels that mishandle edges."""

    heads: int
    tokens: int


class AttentionTrials:
    """The trials on one device; ``compute`` is the dtype of activations."""

    def __init__(self, device: torch.device, shape: AttentionShape, compute: torch.dtype, clock: Clock) -> None:
        self._device = device
        self._shape = shape
        self._compute = compute
        self._clock = clock

    def trials(self) -> dict[str, Callable[[], Trial]]:
        """All of them, such as ``flash_128``."""
        return {
            f"{name}_{head_size}": self._trial(backend, head_size)
            for name, backend in BACKENDS.items()
            for head_size in HEAD_SIZES
        }

    def _trial(self, backend: SDPBackend, head_size: int) -> Callable[[], Trial]:
        return lambda: self._run(backend, head_size)

    def _run(self, backend: SDPBackend, head_size: int) -> Trial:
        generator = torch.Generator().manual_seed(11)
        shape = (3, 1, self._shape.heads, self._shape.tokens, head_size)
        query, key, value = torch.randn(shape, generator=generator).to(self._device, self._compute)

        def attend() -> Tensor:
            return functional.scaled_dot_product_attention(query, key, value)

        with sdpa_kernel(backend), warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            try:
                result = attend()
            except RuntimeError as refusal:
                return Trial(ok=False, error=_reason(refusal, [str(note.message) for note in notes]))
            (seconds,) = median_seconds(self._clock, attend)
        error = relative_error(result, _reference(query.float(), key.float(), value.float()))
        operations = 4.0 * self._shape.heads * self._shape.tokens**2 * head_size
        return judged(error, ERROR_LIMITS["attention"], operations, seconds)


def _reference(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention by its definition, in FP32."""
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    return torch.softmax(scores, dim=-1) @ value


def _reason(error: RuntimeError, notes: list[str]) -> str:
    """torch says why a backend was refused in warnings, not in the error."""
    said = [note.split("(Triggered internally")[0].strip() for note in notes]
    return " ".join([str(error).splitlines()[0], *said])[:400]
