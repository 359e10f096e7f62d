"""How close forwards are to diffusers' and to FP32, and that their bits depend on nothing but what they are given.

The references run diffusers' own code a block at a time, so that FP32 fits any card.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from memory_bench.full_size import RandomSource
from part_runs.part import Recorder
from part_runs.stopwatch import Stopwatch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from forward_bench.lively import Lively
from forward_bench.models import (
    Inputs,
    Precision,
    diffusers_a_block_at_a_time,
    diffusers_call,
    forwards,
    inputs,
    ours,
    source,
)
from forward_bench.one_block import block_errors
from forward_bench.setting import MIDDLE, NATIVE, SIZES, SMALLEST, Setting, Size
from qied.engine.transformer.transformer import Forward, Transformer

REPEATS = 4
"""Calls of the same forward that must give the same bits: a graph, where there is one, is used by then."""
_COMPARED = (SMALLEST, NATIVE)
_OTHER_ATTENTION = {"cuda": SDPBackend.FLASH_ATTENTION, "cpu": SDPBackend.MATH}
"""Attention that torch would not choose by itself: it takes cuDNN's on cards, flash attention on the CPU."""


@dataclass(frozen=True)
class _References:
    """What diffusers makes of the inputs of each size: in FP32, in BF16, and in BF16 by another attention kernel."""

    exact: dict[str, Tensor] = field(default_factory=dict)
    plain: dict[str, Tensor] = field(default_factory=dict)
    other: dict[str, Tensor] = field(default_factory=dict)

    def errors(self) -> dict[str, Any]:
        """How far diffusers in BF16 is from FP32, and from itself with the other kernel."""
        return {
            size: {
                "to_fp32": relative_error(self.plain[size], exact),
                "to_itself_by_another_attention": relative_error(self.other[size], self.plain[size]),
            }
            for size, exact in self.exact.items()
        }


def measure(setting: Setting, record: Recorder) -> None:
    """Record relative errors of velocities and of one block's update, and whether bits are the same."""
    watch = Stopwatch(torch.device(setting.device))
    with torch.inference_mode():
        weights = Lively(setting)
        references = _references(setting, weights, watch)
        record.put("diffusers bf16", value=references.errors())
        for precision in ("bf16", "fp8", "fp8-attention", "int8", "int8-attention"):
            watch.clear()
            record.attempt(precision, measure=partial(_compared, setting, precision, weights, references, record))
            watch.clear()
            record.attempt("one block", precision, measure=partial(block_errors, setting, precision))
        del references
        record.attempt("plain weights", measure=partial(_with_plain_weights, setting, watch))


def _compared(
    setting: Setting, precision: Precision, weights: RandomSource, references: _References, record: Recorder
) -> dict[str, Any]:
    transformer = ours(setting, precision, weights=weights)
    record.attempt("same bits", precision, measure=partial(_bits, setting, transformer, precision))
    return _errors(setting, transformer, references)


def _with_plain_weights(setting: Setting, watch: Stopwatch) -> dict[str, Any]:
    """The errors in BF16 with weights as every layer of them is drawn alike: blocks then change little."""
    weights = source(setting)
    references = _references(setting, weights, watch)
    transformer = ours(setting, "bf16", weights=weights)
    return {"diffusers bf16": references.errors(), "bf16": _errors(setting, transformer, references)}


def _references(setting: Setting, weights: RandomSource, watch: Stopwatch) -> _References:
    found = _References()
    for dtype, outputs in ((torch.float32, found.exact), (torch.bfloat16, found.plain)):
        model = diffusers_a_block_at_a_time(setting, weights, dtype)
        for size in _sizes(_COMPARED):
            outputs[str(size)] = diffusers_call(model, inputs(setting, size), 0, dtype).float()
        if dtype is torch.bfloat16:
            with sdpa_kernel(_OTHER_ATTENTION[torch.device(setting.device).type]):
                for size in _sizes(_COMPARED):
                    found.other[str(size)] = diffusers_call(model, inputs(setting, size), 0, dtype).float()
        del model
        watch.clear()
    return found


def relative_error(found: Tensor, reference: Tensor) -> float:
    """Norm of the difference over the norm of the reference."""
    error = torch.linalg.vector_norm((found.float() - reference.float()).double())
    return float(error / torch.linalg.vector_norm(reference.double()))


def _errors(setting: Setting, transformer: Transformer, references: _References) -> dict[str, Any]:
    """Errors of velocities at each size, against FP32 and against diffusers in BF16."""
    errors: dict[str, Any] = {}
    for size in _sizes(_COMPARED):
        name = str(size)
        (velocity,) = transformer.velocities([forwards(transformer, inputs(setting, size))[0]])
        errors[name] = {
            "to_fp32": relative_error(velocity, references.exact[name]),
            "to_diffusers_bf16": relative_error(velocity, references.plain[name]),
        }
    return errors


def _bits(setting: Setting, resident: Transformer, precision: Precision) -> dict[str, bool]:
    """Whether forwards that stream, share a sweep or come again have the bits of one that was alone on the card."""
    edits = [inputs(setting, size, seed) for seed, size in enumerate(_sizes((SMALLEST, MIDDLE, NATIVE, SMALLEST)))]
    alone = [resident.velocities([one])[0] for one in _each(resident, edits)]
    again = [_nth(resident, one) for one in _each(resident, edits)]
    found = {"repeated": _same(again, alone), "swept": _same(resident.velocities(_each(resident, edits)), alone)}
    streamed = ours(setting, precision, setting.layers // 3, Lively(setting))
    found["streamed"] = _same([_nth(streamed, one) for one in _each(streamed, edits)], alone)
    found["streamed_and_swept"] = _same(streamed.velocities(_each(streamed, edits)), alone)
    return found


def _each(transformer: Transformer, edits: Sequence[Inputs]) -> list[Forward]:
    return [forwards(transformer, given)[0] for given in edits]


def _nth(transformer: Transformer, one: Forward) -> Tensor:
    velocity: Callable[[], Tensor] = lambda: transformer.velocities([one])[0]  # noqa: E731 - called again and again
    for _ in range(REPEATS - 1):
        velocity()
    return velocity()


def _same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def _sizes(names: Sequence[str]) -> list[Size]:
    known = {str(size): size for size in SIZES}
    return [known[name] for name in names]
