"""Milliseconds of one forward at each size, of diffusers' transformer and of the project's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import torch
from part_runs.part import Recorder
from part_runs.stopwatch import Stopwatch

from forward_bench.models import (
    SIGMAS,
    Precision,
    diffusers_call,
    diffusers_model,
    forwards,
    inputs,
    ours,
)
from forward_bench.setting import NATIVE, SIZES, WARM_UP, Setting, Size

FIRST_CALLS = 3
"""Calls of a size that was never seen that are timed by themselves: some executors finish their preparations later."""


def diffusers_eager(setting: Setting, record: Recorder) -> None:
    """diffusers' transformer in BF16 as it is."""
    with torch.no_grad():
        model = _built(setting, record, lambda: diffusers_model(setting))
        _diffusers_sizes(setting, record, model, SIZES)


def diffusers_compiled(setting: Setting, record: Recorder) -> None:
    """The same with compiled blocks, at the native size."""
    with torch.no_grad():
        model = _built(setting, record, lambda: diffusers_model(setting))
        model.compile_repeated_blocks()
        _diffusers_sizes(setting, record, model, _native())


def torchao(setting: Setting, record: Recorder) -> None:
    """The same with weights and activations in FP8 by torchao, a scale for each row, in all linears but modulation."""
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, quantize_

    def taken(module: torch.nn.Module, name: str) -> bool:
        return isinstance(module, torch.nn.Linear) and "transformer_blocks." in name and "_mod." not in name

    with torch.no_grad():
        model = _built(setting, record, lambda: diffusers_model(setting))
        quantize_(model, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()), filter_fn=taken)
        watch = Stopwatch(torch.device(setting.device))
        watch.clear()
        record.put("quantised", value={"allocated_bytes": watch.allocated(), "linears": _taken(model, taken)})
        model.compile_repeated_blocks()
        _diffusers_sizes(setting, record, model, _native())


def fp8(setting: Setting, record: Recorder) -> None:
    """The project's transformer in FP8."""
    _ours(setting, record, "fp8")


def fp8_attention(setting: Setting, record: Recorder) -> None:
    """The project's transformer in FP8 with its attention."""
    _ours(setting, record, "fp8-attention")


def bf16(setting: Setting, record: Recorder) -> None:
    """The project's transformer in BF16."""
    _ours(setting, record, "bf16")


def fp8_storage(setting: Setting, record: Recorder) -> None:
    """The project's transformer with weights in FP8 that are expanded before use."""
    _ours(setting, record, "fp8-storage")


def _ours(setting: Setting, record: Recorder, precision: Precision) -> None:
    with torch.inference_mode():
        transformer = _built(setting, record, lambda: ours(setting, precision))
        record.put("weights", value={"told_bytes": transformer.device_bytes})

        def calls(size: Size) -> Callable[[], Any]:
            made = cycle(forwards(transformer, inputs(setting, size)))
            return lambda: transformer.velocities([next(made)])

        watch = Stopwatch(torch.device(setting.device))
        # Kernels are compiled in the first forward of all, once on a machine and not once a size.
        record.put("first_of_all_ms", value=watch.wall(calls(WARM_UP)))
        _sizes(setting, record, calls, SIZES)


def _diffusers_sizes(setting: Setting, record: Recorder, model: Any, sizes: Sequence[Size]) -> None:
    def calls(size: Size) -> Callable[[], Any]:
        given = inputs(setting, size)
        steps = cycle(range(len(SIGMAS)))
        return lambda: diffusers_call(model, given, next(steps))

    _sizes(setting, record, calls, sizes)


def _sizes(
    setting: Setting, record: Recorder, calls: Callable[[Size], Callable[[], Any]], sizes: Sequence[Size]
) -> None:
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


def _built(setting: Setting, record: Recorder, build: Callable[[], Any]) -> Any:
    watch = Stopwatch(torch.device(setting.device))
    started = time.perf_counter()
    model = build()
    watch.clear()
    record.put("weights", value={"built_s": round(time.perf_counter() - started, 1), "bytes": watch.allocated()})
    return model


def _taken(model: torch.nn.Module, taken: Callable[[torch.nn.Module, str], bool]) -> int:
    return sum(taken(module, name) for name, module in model.named_modules())


def _native() -> list[Size]:
    return [size for size in SIZES if str(size) == NATIVE]
