"""Milliseconds of one forward of diffusers' transformer: as it is, and in the best forms that can be had of it.

Compiled forms have a shape of their own for each size (``dynamic=False``), which is faster than one for all sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import torch
from part_runs.part import Recorder
from part_runs.stopwatch import Stopwatch

from forward_bench.models import SIGMAS, diffusers_call, diffusers_model, inputs
from forward_bench.setting import MIDDLE, NATIVE, SIZES, SMALLEST, Setting, Size
from forward_bench.speed import built, time_sizes

ATTENTION = ("native", "_native_cudnn", "_native_flash", "_native_efficient", "sage", "_flash_3_hub")
"""Backends of diffusers' attention; the last two need packages of their own, and say so where they are missing."""
BEST_ATTENTION = "_native_cudnn"
"""The fastest of them on Hopper that comes with torch."""


def eager(setting: Setting, record: Recorder) -> None:
    """diffusers' transformer in BF16 as it is; then with each attention backend at the native size."""
    with torch.no_grad():
        model = built(setting, record, lambda: diffusers_model(setting))
        _time(setting, record, model, SIZES)
        watch = Stopwatch(torch.device(setting.device))
        call = _calls(setting, model)(_sizes(NATIVE)[0])
        for name in ATTENTION:

            def with_backend(name: str = name) -> dict[str, float]:
                model.set_attention_backend(name)
                return {"ms": watch.median(call, setting.repeats, setting.warm_up)}

            record.attempt("attention", name, measure=with_backend)


def compiled(setting: Setting, record: Recorder) -> None:
    """Compiled blocks, each one graph without breaks, in the default mode."""
    _compiled(setting, record, {})


def compiled_autotune(setting: Setting, record: Recorder) -> None:
    """The same with kernels chosen by timing them."""
    _compiled(setting, record, {"mode": "max-autotune-no-cudagraphs"})


def compiled_graphs(setting: Setting, record: Recorder) -> None:
    """The same with CUDA graphs, which spare the host."""
    _compiled(setting, record, {"mode": "reduce-overhead"})


def torchao(setting: Setting, record: Recorder) -> None:
    """Compiled blocks with weights and activations in FP8, a scale for each row, in all linears but the modulation."""
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, quantize_

    def taken(module: torch.nn.Module, name: str) -> bool:
        return isinstance(module, torch.nn.Linear) and "transformer_blocks." in name and "_mod." not in name

    with torch.no_grad():
        model = built(setting, record, lambda: _with_best_attention(setting))
        quantize_(model, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()), filter_fn=taken)
        watch = Stopwatch(torch.device(setting.device))
        watch.clear()
        linears = sum(taken(module, name) for name, module in model.named_modules())
        record.put("quantised", value={"allocated_bytes": watch.allocated(), "linears": linears})
        model.compile_repeated_blocks(dynamic=False)
        _time(setting, record, model, _sizes(NATIVE, SMALLEST))


def group_offload(setting: Setting, record: Recorder) -> None:
    """Blocks offloaded to pinned host memory, each brought by a stream of its own while the one before computes.

    In BF16, and with weights stored in FP8 (a plain cast, expanded before use), which are half as much to copy.
    """
    for name, storage in (("bf16", None), ("fp8 storage", torch.float8_e4m3fn)):
        record.attempt(name, measure=partial(_offloaded, setting, storage))


def _offloaded(setting: Setting, storage: torch.dtype | None) -> dict[str, Any]:
    """Median milliseconds of consecutive forwards at two sizes, and the card's bytes; weights are drawn on the card."""
    device = torch.device(setting.device)
    watch = Stopwatch(device)
    watch.clear()
    with torch.no_grad():
        model = _with_best_attention(setting)
        if storage is not None:
            model.enable_layerwise_casting(storage_dtype=storage, compute_dtype=torch.bfloat16)
        model.to("cpu")
        watch.forget_peaks()
        model.enable_group_offload(
            onload_device=device,
            offload_device=torch.device("cpu"),
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=True,
            record_stream=True,
        )
        found: dict[str, Any] = {"ms": {}, "peak_reserved_bytes": {}}
        for size in _sizes(MIDDLE, NATIVE):
            watch.forget_peaks()
            call = _calls(setting, model)(size)
            found["ms"][str(size)] = watch.consecutive(call, 2 if setting.quick else 7, setting.warm_up)
            found["peak_reserved_bytes"][str(size)] = watch.peaks(0)["peak_reserved_bytes"]
    return found


def _compiled(setting: Setting, record: Recorder, options: dict[str, Any]) -> None:
    with torch.no_grad():
        model = built(setting, record, lambda: _with_best_attention(setting))
        model.compile_repeated_blocks(fullgraph=True, dynamic=False, **options)
        _time(setting, record, model, _sizes(SMALLEST, NATIVE))


def _with_best_attention(setting: Setting) -> Any:
    model = diffusers_model(setting)
    if setting.device != "cpu":
        model.set_attention_backend(BEST_ATTENTION)
    return model


def _time(setting: Setting, record: Recorder, model: Any, sizes: Sequence[Size]) -> None:
    time_sizes(setting, record, _calls(setting, model), sizes)


def _calls(setting: Setting, model: Any) -> Callable[[Size], Callable[[], Any]]:
    def calls(size: Size) -> Callable[[], Any]:
        given = inputs(setting, size)
        steps = cycle(range(len(SIGMAS)))

        def call() -> Any:
            # Recorded graphs reuse the memory of the forward before, whose result nobody needs any more.
            torch.compiler.cudagraph_mark_step_begin()
            return diffusers_call(model, given, next(steps))

        return call

    return calls


def _sizes(*names: str) -> list[Size]:
    return [size for name in names for size in SIZES if str(size) == name]
