"""Milliseconds of one forward at each size, of the project's transformer; ``peers`` has diffusers'."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import torch
from part_runs.part import Recorder
from part_runs.stopwatch import Stopwatch

from forward_bench.models import Precision, forwards, inputs, ours
from forward_bench.setting import SIZES, WARM_UP, Setting, Size

FIRST_CALLS = 3
"""Calls of a size that was never seen that are timed by themselves: some executors finish their preparations later."""


def fp8(setting: Setting, record: Recorder) -> None:
    """The project's transformer in FP8."""
    _ours(setting, record, "fp8")


def fp8_attention(setting: Setting, record: Recorder) -> None:
    """The project's transformer in FP8 with its attention."""
    _ours(setting, record, "fp8-attention")


def int8(setting: Setting, record: Recorder) -> None:
    """The project's transformer in INT8."""
    _ours(setting, record, "int8")


def int8_attention(setting: Setting, record: Recorder) -> None:
    """The project's transformer in INT8 with its attention in FP8."""
    _ours(setting, record, "int8-attention")


def bf16(setting: Setting, record: Recorder) -> None:
    """The project's transformer in BF16."""
    _ours(setting, record, "bf16")


def fp8_storage(setting: Setting, record: Recorder) -> None:
    """The project's transformer with weights in FP8 that are expanded before use."""
    _ours(setting, record, "fp8-storage")


def _ours(setting: Setting, record: Recorder, precision: Precision) -> None:
    with torch.inference_mode():
        transformer = built(setting, record, lambda: ours(setting, precision))
        record.put("weights", value={"told_bytes": transformer.device_bytes})

        def calls(size: Size) -> Callable[[], Any]:
            made = cycle(forwards(transformer, inputs(setting, size)))
            return lambda: transformer.velocities([next(made)])

        watch = Stopwatch(torch.device(setting.device))
        # Kernels are compiled in the first forward of all, once on a machine and not once a size.
        record.put("first_of_all_ms", value=watch.wall(calls(WARM_UP)))
        time_sizes(setting, record, calls, SIZES)


def time_sizes(
    setting: Setting, record: Recorder, calls: Callable[[Size], Callable[[], Any]], sizes: Sequence[Size]
) -> None:
    """Record the figures of each size; ``calls`` makes what runs one forward of it."""
    for size in sizes:
        record.attempt("sizes", str(size), measure=partial(_size, setting, calls, size))


def _size(setting: Setting, calls: Callable[[Size], Callable[[], Any]], size: Size) -> dict[str, Any]:
    """Figures of one size that this process has not seen before."""
    watch = Stopwatch(torch.device(setting.device))
    watch.forget_peaks()
    above = watch.allocated()
    call = calls(size)
    first = [watch.wall(call) for _ in range(FIRST_CALLS)]
    return {
        "tokens": setting.tokens(size),
        "first_ms": first,
        "ms": watch.median(call, setting.repeats, setting.warm_up),
        "issue_ms": watch.issue(call),
        **watch.peaks(above),
    }


def built(setting: Setting, record: Recorder, build: Callable[[], Any]) -> Any:
    """Build a model, and record its seconds and bytes."""
    watch = Stopwatch(torch.device(setting.device))
    started = time.perf_counter()
    model = build()
    watch.clear()
    record.put("weights", value={"built_s": round(time.perf_counter() - started, 1), "bytes": watch.allocated()})
    return model
