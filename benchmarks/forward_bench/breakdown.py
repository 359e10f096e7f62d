"""Where the time of one forward goes, kernel by kernel, as torch's profiler sees it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from part_runs.part import Recorder
from part_runs.stopwatch import Stopwatch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from forward_bench.models import Precision, diffusers_call, diffusers_model, forwards, inputs, ours
from forward_bench.setting import NATIVE, SIZES, SMALLEST, Setting

PRECISIONS: tuple[Precision, ...] = ("fp8", "fp8-attention", "bf16")
_NAME_LENGTH = 160
_WARM_UP = 3


@dataclass(frozen=True)
class Kernel:
    """One kernel's run: microseconds from the profiler's beginning."""

    name: str
    start: float
    end: float


def measure(setting: Setting, record: Recorder) -> None:
    """Record the kernels of a forward with their times, and the gaps between them."""
    for precision in PRECISIONS:
        Stopwatch(torch.device(setting.device)).clear()
        record.attempt(precision, measure=partial(_ours, setting, precision))


def eager(setting: Setting, record: Recorder) -> None:
    """The same of diffusers' transformer."""
    with torch.no_grad():
        model = diffusers_model(setting)
        for size in (size for size in SIZES if str(size) == NATIVE):
            given = inputs(setting, size)
            profiled = _profiled(setting, lambda g=given: diffusers_call(model, g, 0))
            record.put(str(size), value=summary(profiled))


def _ours(setting: Setting, precision: Precision) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with torch.inference_mode():
        transformer = ours(setting, precision)
        for size in (size for size in SIZES if str(size) in (SMALLEST, NATIVE)):
            one = forwards(transformer, inputs(setting, size))[0]
            found[str(size)] = summary(_profiled(setting, lambda o=one: transformer.velocities([o])))
    return found


def _profiled(setting: Setting, call: Any) -> list[Kernel]:
    device = torch.device(setting.device)
    for _ in range(_WARM_UP):
        call()
    cuda = device.type == "cuda"
    watch = Stopwatch(device)
    watch.synchronize()
    # Twice: what starts the profiler takes its time inside the first forward.
    for _ in range(2):
        with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiler:
            call()
            watch.synchronize()
    return list(_kernels(profiler.events(), cuda))


def _kernels(events: Iterable[Any], cuda: bool) -> Iterator[Kernel]:
    """The runs of kernels; on the CPU those operators that call no other one."""
    for event in events:
        where = event.device_type == (DeviceType.CUDA if cuda else DeviceType.CPU)
        if where and not getattr(event, "is_user_annotation", False) and not event.cpu_children:
            yield Kernel(event.name, event.time_range.start, event.time_range.end)


def summary(kernels: Sequence[Kernel]) -> dict[str, Any]:
    """Milliseconds from the first kernel's start to the last one's end, of gaps, and of each kernel by its name."""
    spans: dict[str, list[float]] = defaultdict(list)
    for kernel in kernels:
        spans[kernel.name[:_NAME_LENGTH]].append(kernel.end - kernel.start)
    rows = [{"name": name, "ms": round(sum(each) / 1000, 4), "count": len(each)} for name, each in spans.items()]
    ordered = sorted(kernels, key=lambda kernel: kernel.start)
    span = max(kernel.end for kernel in kernels) - ordered[0].start
    return {
        "span_ms": round(span / 1000, 3),
        "gaps_ms": round((span - _busy(ordered)) / 1000, 3),
        "launches": len(kernels),
        "kernels": sorted(rows, key=lambda row: -row["ms"]),
    }


def _busy(ordered: Sequence[Kernel]) -> float:
    """Microseconds in which any kernel ran."""
    busy, until = 0.0, ordered[0].start
    for kernel in ordered:
        busy += max(0.0, kernel.end - max(until, kernel.start))
        until = max(until, kernel.end)
    return busy
