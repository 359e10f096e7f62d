"""Trials of attention: each backend of torch's scaled dot product at the head sizes of these models."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from qied.engine.ops.attention import BACKENDS, Attention
from qied.engine.ops.cudnn_attention import kernel_of
from qied.engine.ops.fp8_attention import Fp8Attention, ScaleRow, put_value_scales
from qied.engine.selftest.measure import ERROR_LIMITS, Clock, judged, median_seconds, relative_error
from qied.engine.weights.quantise import E4M3, E4M3_MAX
from qied.hardware.snapshot import Trial
from qied.planning.choosing.candidates import FP8_ATTENTION_TRIAL
from qied.planning.layout.forward_layout import ATTENTION_SCALES

HEAD_SIZES = (64, 128)
_FASTER_BY = 0.98
"""What takes accuracy has to be faster for it, by more than noise."""


@dataclass(frozen=True)
class AttentionShape:
    """Queries, keys and values of one picture. Tokens that fill no power of two show kernels that mishandle edges.

    What is launched by Python is timed with ``timed_tokens``: with few, the time is the launch's, which a block that is
    recorded as a graph does not have.
    """

    heads: int
    tokens: int
    timed_tokens: int


class AttentionTrials:
    """The trials on one device; ``compute`` is the dtype of activations."""

    def __init__(self, device: torch.device, shape: AttentionShape, compute: torch.dtype, clock: Clock) -> None:
        self._device = device
        self._shape = shape
        self._compute = compute
        self._clock = clock

    def trials(self) -> dict[str, Callable[[], Trial]]:
        """All of them, such as ``flash_128``."""
        found = {
            f"{name}_{head_size}": self._trial(backend, head_size)
            for name, backend in BACKENDS.items()
            for head_size in HEAD_SIZES
        }
        return found | {f"{FP8_ATTENTION_TRIAL}_{head_size}": partial(self._fp8, head_size) for head_size in HEAD_SIZES}

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
        return judged(error, ERROR_LIMITS["attention"], self._operations(head_size, self._shape.tokens), seconds)

    def _fp8(self, head_size: int) -> Trial:
        """Attention in FP8, with rows as a block has them; on a card it has to be faster than the best in 16 bits."""
        try:
            kernel = kernel_of(self._device)
            error = self._fp8_error(kernel, head_size)
        except RuntimeError as refusal:
            return Trial(ok=False, error=str(refusal).splitlines()[0][:400])
        seconds, reference_s = self._fp8_seconds(kernel, head_size)
        limit, operations = ERROR_LIMITS["fp8_attention"], self._operations(head_size, self._shape.timed_tokens)
        return judged(error, limit, operations, seconds, reference_s, slower_by=_FASTER_BY)

    def _fp8_error(self, kernel: Fp8Attention, head_size: int) -> float:
        drawn = self._drawn(self._shape.tokens, head_size)
        low, scales = _quantised(drawn)
        out = torch.empty_like(low[:, 0])
        kernel(low, 0, scales, out)
        exact = _reference(*(_of_pictures(part.float()) for part in drawn.unbind(1)))
        return relative_error(_of_pictures(out.float() * scales[ScaleRow.V, 0]), exact)

    def _fp8_seconds(self, kernel: Fp8Attention, head_size: int) -> tuple[float, float | None]:
        """Seconds in FP8 and in 16 bits; the latter None where speed says nothing."""
        drawn = self._drawn(self._shape.timed_tokens, head_size)
        low, scales = _quantised(drawn)
        out = torch.empty_like(low[:, 0])
        plain = Attention(tuple(BACKENDS))
        works = [lambda: kernel(low, 0, scales, out), lambda: plain(*drawn.unbind(1))]
        seconds, *reference = median_seconds(self._clock, *works[: 2 if has_to_be_fast(self._device) else 1])
        return seconds, reference[0] if reference else None

    def _drawn(self, tokens: int, head_size: int) -> Tensor:
        """Random queries, keys and values [tokens, 3, heads, head_size]."""
        generator = torch.Generator().manual_seed(12)
        shape = (tokens, 3, self._shape.heads, head_size)
        return torch.randn(shape, generator=generator).to(self._device, self._compute)

    def _operations(self, head_size: int, tokens: int) -> float:
        return 4.0 * self._shape.heads * tokens**2 * head_size


def has_to_be_fast(device: torch.device) -> bool:
    """Whether speed says anything on a device: not where FP8 is simulated."""
    return device.type == "cuda"


def _quantised(heads: Tensor) -> tuple[Tensor, Tensor]:
    """Queries, keys and values [rows, 3, heads, size] in E4M3, and the scales of their attention."""
    scales = torch.zeros(ATTENTION_SCALES, device=heads.device)
    steps = scales[:, 0]
    steps[: ScaleRow.V] = heads[:, :2].float().abs().amax((0, 2, 3)) / E4M3_MAX
    put_value_scales(steps, heads[:, 2].abs().amax())
    low = torch.empty_like(heads, dtype=E4M3)
    for part in range(3):
        low[:, part] = heads[:, part].float() / steps[part]
    return low, scales


def _reference(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention by its definition, in FP32."""
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    return torch.softmax(scores, dim=-1) @ value


def _of_pictures(rows: Tensor) -> Tensor:
    """See [rows, heads, size] as [1, heads, rows, size]."""
    return rows.transpose(0, 1).unsqueeze(0)


def _reason(error: RuntimeError, notes: list[str]) -> str:
    """torch says why a backend was refused in warnings, not in the error."""
    said = [note.split("(Triggered internally")[0].strip() for note in notes]
    return " ".join([str(error).splitlines()[0], *said])[:400]
