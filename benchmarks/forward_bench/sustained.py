"""What products in FP8 and INT8 reach for seconds on end, when the card's power limit holds their clock down.

Rounds of both take turns, so that a card that warms up, or shares its power, meets both alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from statistics import median
from typing import Any

import pynvml
import torch
from part_runs.part import Recorder
from torch import Tensor

from forward_bench.setting import Setting
from qied.engine.block.arena import Workspace
from qied.engine.block.packed import PackedLinear
from qied.engine.ops.choice import int8_linears
from qied.engine.ops.linear import LinearKind, linear_kind
from qied.engine.ops.operations import Activation
from qied.engine.weights.quantise import quantise, rotate_to_int8
from qied.planning.layout.block_layout import rotation_group

_TOKENS, _TOKENS_QUICK = 8192, 64
_ROUNDS, _SECONDS, _SECONDS_QUICK = 3, 4.0, 0.05
_AT_ONCE = 50


def measure(setting: Setting, record: Recorder) -> None:
    """Record TFLOP/s, watts and megahertz of each product of a block, with scales and bias."""
    device = torch.device(setting.device)
    inner = setting.inner
    shapes = {"qkv": (3 * inner, inner), "out": (inner, inner), "up": (4 * inner, inner), "down": (inner, 4 * inner)}
    with torch.inference_mode():
        for name, (outputs, inputs) in shapes.items():
            record.attempt("products", name, measure=partial(_product, setting, device, outputs, inputs))


def _product(setting: Setting, device: torch.device, outputs: int, inputs: int) -> dict[str, Any]:
    tokens = _TOKENS_QUICK if setting.quick else _TOKENS
    x = torch.randn(tokens, inputs, device=device).bfloat16()
    weight = torch.randn(outputs, inputs, device=device).bfloat16()
    exact = x[:256].double() @ weight.double().t()
    out = torch.empty(tokens, outputs, device=device, dtype=torch.bfloat16)
    works = {name: make(x, weight, out) for name, make in (("fp8", _fp8), ("int8", _int8))}
    found: dict[str, Any] = {}
    for name, work in works.items():
        work()
        found[name] = {"relative_error": float((out[:256].double() - exact).norm() / exact.norm())}
    seconds = _SECONDS_QUICK if setting.quick else _SECONDS
    rounds = [(name, _round(work, device, seconds)) for _ in range(_ROUNDS) for name, work in works.items()]
    for name in works:
        mine = [each for other, each in rounds if other == name]
        operations = 2 * tokens * outputs * inputs
        found[name]["tflops"] = float(f"{median(operations / each['seconds'] for each in mine) / 1e12:.4g}")
        for key in ("watts", "mhz"):
            values = [each[key] for each in mine if each[key] is not None]
            found[name][key] = median(values) if values else None
    return found


def _fp8(x: Tensor, weight: Tensor, out: Tensor) -> Callable[[], None]:
    return _applied(linear_kind("fp8", "rowwise", x.device), quantise(x, "rowwise"), quantise(weight, "rowwise"), out)


def _int8(x: Tensor, weight: Tensor, out: Tensor) -> Callable[[], None]:
    group = rotation_group(x.shape[1], x.shape[1])
    return _applied(int8_linears(x.device), rotate_to_int8(x, group), rotate_to_int8(weight, group), out)


def _applied(kind: LinearKind, x: Any, weight: Any, out: Tensor) -> Callable[[], None]:
    given = Activation(x.values, x.scale.flatten())
    bias = torch.zeros(len(weight.values), device=out.device, dtype=out.dtype)
    linear, workspace = PackedLinear(weight.values, bias, weight.scale.flatten()), Workspace(out, out)
    return lambda: kind.apply(given, linear, out, workspace)


def _round(work: Callable[[], None], device: torch.device, seconds: float) -> dict[str, Any]:
    """Seconds a call, and power and clock in the second half."""
    calls = 0
    watts: list[float] = []
    clocks: list[int] = []
    _wait(device)
    started = time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        for _ in range(_AT_ONCE if device.type == "cuda" else 1):
            work()
            calls += 1
        if passed > seconds / 2:
            seen = _power(device)
            if seen is not None:
                watts.append(seen[0])
                clocks.append(seen[1])
        _wait(device)
    taken = (time.perf_counter() - started) / calls
    return {"seconds": taken, "watts": median(watts) if watts else None, "mhz": median(clocks) if clocks else None}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _power(device: torch.device) -> tuple[float, int] | None:
    """Watts and the clock in MHz, None where nobody tells."""
    if device.type != "cuda":
        return None
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByIndex(0)
        return pynvml.nvmlDeviceGetPowerUsage(card) / 1000, pynvml.nvmlDeviceGetClockInfo(card, pynvml.NVML_CLOCK_SM)
    return None
