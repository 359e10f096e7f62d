"""How close forwards are to diffusers' and to FP32, and that their bits depend on nothing but what they are given.

The references run diffusers' own code a block at a time, so that FP32 fits any card.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from part_runs.part import Recorder
from part_runs.stopwatch import Stopwatch
from torch import Tensor

from forward_bench.lively import Lively
from forward_bench.models import (
    Inputs,
    Precision,
    diffusers_a_block_at_a_time,
    diffusers_call,
    forwards,
    inputs,
    ours,
)
from forward_bench.one_block import block_errors
from forward_bench.setting import MIDDLE, NATIVE, SIZES, SMALLEST, Setting, Size
from qied.engine.transformer import Forward, Transformer

REPEATS = 4
"""Calls of the same forward that must give the same bits: a graph, where there is one, is used by then."""
_COMPARED = (SMALLEST, NATIVE)


def measure(setting: Setting, record: Recorder) -> None:
    """Record relative errors of velocities and of one block's update, and whether bits are the same."""
    watch = Stopwatch(torch.device(setting.device))
    with torch.inference_mode():
        weights = Lively(setting)
        exact: dict[str, Tensor] = {}
        plain: dict[str, Tensor] = {}
        for dtype, found in ((torch.float32, exact), (torch.bfloat16, plain)):
            model = diffusers_a_block_at_a_time(setting, weights, dtype)
            for size in _sizes(_COMPARED):
                found[str(size)] = diffusers_call(model, inputs(setting, size), 0, dtype).float()
            del model
            watch.clear()
        for name, reference in exact.items():
            record.put("diffusers bf16", name, value={"to_fp32": relative_error(plain[name], reference)})
        for precision in ("bf16", "fp8"):
            watch.clear()
            transformer = ours(setting, precision, weights=weights)
            record.attempt(precision, measure=partial(_errors, setting, transformer, exact, plain))
            record.attempt("same bits", precision, measure=partial(_bits, setting, transformer, precision))
            del transformer
            watch.clear()
            record.attempt("one block", precision, measure=partial(block_errors, setting, precision))


def relative_error(found: Tensor, reference: Tensor) -> float:
    """Norm of the difference over the norm of the reference."""
    error = torch.linalg.vector_norm((found.float() - reference.float()).double())
    return float(error / torch.linalg.vector_norm(reference.double()))


def _errors(
    setting: Setting, transformer: Transformer, exact: dict[str, Tensor], plain: dict[str, Tensor]
) -> dict[str, Any]:
    """Errors of velocities at each size, against FP32 and against diffusers in BF16."""
    errors: dict[str, Any] = {}
    for size in _sizes(_COMPARED):
        name = str(size)
        (velocity,) = transformer.velocities([forwards(transformer, inputs(setting, size))[0]])
        errors[name] = {
            "to_fp32": relative_error(velocity, exact[name]),
            "to_diffusers_bf16": relative_error(velocity, plain[name]),
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
