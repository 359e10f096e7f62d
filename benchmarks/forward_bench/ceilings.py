"""What the card itself reaches in the products, the attention and the copies that a forward consists of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from part_runs.part import Recorder
from part_runs.stopwatch import Stopwatch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import sdpa_kernel

from forward_bench.setting import SIZES, Setting
from qied.engine.copying.staging import staging_for
from qied.engine.ops.attention import BACKENDS

_E4M3 = torch.float8_e4m3fn
_COPIED = 1 << 30
_COPIED_QUICK = 1 << 22
_BACKENDS = ("cudnn", "flash", "efficient")


def measure(setting: Setting, record: Recorder) -> None:
    """Record TFLOP/s of products and attention, and bytes a second of copies."""
    device = torch.device(setting.device)
    watch = Stopwatch(device)
    with torch.inference_mode():
        for size in SIZES:
            tokens = setting.tokens(size)
            for name, (outputs, inputs) in _linears(setting.inner).items():
                path = (str(size), f"{name} {outputs}x{inputs}")
                for kind, product in (("bf16", _bf16), ("fp8", _fp8)):
                    work = 2 * tokens * outputs * inputs
                    rate = _rated(watch, setting, work, partial(product, tokens, outputs, inputs, device))
                    record.attempt("gemm_tflops", kind, *path, measure=rate)
            for backend in _BACKENDS if device.type == "cuda" else ("math",):
                work = 4 * tokens**2 * setting.inner
                rate = _rated(watch, setting, work, partial(_attention, backend, tokens, setting, device))
                record.attempt("attention_tflops", backend, str(size), measure=rate)
            watch.clear()
        for name, made in _COPIES.items():
            record.attempt("copy_bytes_per_s", name, measure=partial(_copied, watch, setting, made))


def _linears(inner: int) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of a block's four kinds of linears."""
    return {"qkv": (3 * inner, inner), "out": (inner, inner), "up": (4 * inner, inner), "down": (inner, 4 * inner)}


def _rated(
    watch: Stopwatch, setting: Setting, work: int, prepared: Callable[[], Callable[[], Any]]
) -> Callable[[], float]:
    """TFLOP/s of what is prepared when it is asked for; it is done often enough to be timed well."""

    def rate() -> float:
        milliseconds = watch.together(prepared(), *_counts(setting))
        return round(work / milliseconds / 1e9, 3)

    return rate


def _counts(setting: Setting) -> tuple[int, int]:
    """How many calls are timed together, and how many go before them."""
    return (2, 1) if setting.quick else (20, 5)


def _bf16(tokens: int, outputs: int, inputs: int, device: torch.device) -> Callable[[], Tensor]:
    x, weight = (torch.randn((n, inputs), device=device, dtype=torch.bfloat16) for n in (tokens, outputs))
    bias = torch.zeros(outputs, device=device, dtype=torch.bfloat16)
    return lambda: functional.linear(x, weight, bias)


def _fp8(tokens: int, outputs: int, inputs: int, device: torch.device) -> Callable[[], Tensor]:
    x, weight = (torch.randn((n, inputs), device=device).to(_E4M3) for n in (tokens, outputs))
    scale_x, scale_weight = torch.ones((tokens, 1), device=device), torch.ones((1, outputs), device=device)
    # Without the bias, which some shapes have no kernel for: this is what the card reaches, not what a linear needs.
    return lambda: torch._scaled_mm(
        x, weight.t(), scale_a=scale_x, scale_b=scale_weight, out_dtype=torch.bfloat16, use_fast_accum=True
    )


def _attention(backend: str, tokens: int, setting: Setting, device: torch.device) -> Callable[[], Tensor]:
    heads, width = setting.config["num_attention_heads"], setting.config["attention_head_dim"]
    # Laid out as the executor lays them out: tokens first.
    q, k, v = (
        torch.randn((tokens, heads, width), device=device, dtype=torch.bfloat16).transpose(0, 1).unsqueeze(0)
        for _ in range(3)
    )

    def attend() -> Tensor:
        with sdpa_kernel([BACKENDS[backend]]):
            return functional.scaled_dot_product_attention(q, k, v)

    return attend


def _copied(watch: Stopwatch, setting: Setting, made: Callable[[int, torch.device], Callable[[], Any]]) -> float:
    nbytes = _COPIED_QUICK if setting.quick else _COPIED
    return round(nbytes / watch.together(made(nbytes, watch.device), 3, 1) * 1000)


def _from_pinned(nbytes: int, device: torch.device) -> Callable[[], Any]:
    host = torch.ones(nbytes, dtype=torch.uint8, pin_memory=device.type == "cuda")
    target = torch.empty(nbytes, dtype=torch.uint8, device=device)
    return lambda: target.copy_(host, non_blocking=True)


def _from_pageable(nbytes: int, device: torch.device) -> Callable[[], Any]:
    host = torch.ones(nbytes, dtype=torch.uint8)
    target = torch.empty(nbytes, dtype=torch.uint8, device=device)
    return lambda: target.copy_(host)


def _in_pieces(nbytes: int, device: torch.device) -> Callable[[], Any]:
    """Pageable memory through the project's pinned pieces; on a CPU there is nothing to pin for."""
    if device.type != "cuda":
        return _from_pageable(nbytes, device)
    host = torch.ones(nbytes, dtype=torch.uint8)
    target = torch.empty(nbytes, dtype=torch.uint8, device=device)
    staging = staging_for(device)
    if staging is None:
        raise RuntimeError("no memory may be pinned here")
    return lambda: staging.copy(target, [(0, host)])


def _on_the_device(nbytes: int, device: torch.device) -> Callable[[], Any]:
    source, target = (torch.ones(nbytes, dtype=torch.uint8, device=device) for _ in range(2))
    return lambda: target.copy_(source)


_COPIES = {
    "pinned": _from_pinned,
    "pageable": _from_pageable,
    "pageable_in_pieces": _in_pieces,
    "on_the_device": _on_the_device,
}
