"""What forwards have to reach, each with what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from part_runs.bar import Bar, Parts, figure, ratio

from forward_bench.setting import GB, MIDDLE, NATIVE, SIZES, SMALLEST, SWEPT_AT

_OURS = ("fp8", "fp8-attention", "int8", "int8-attention", "bf16", "fp8-storage")
_FEW = f"{SWEPT_AT:g} GB"
_FP8_STREAMING = "streaming-fp8-attention"
_GRAPHS = "compiled-graphs"


def judged(parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every bar with its value and whether it is met, None where it was not measured."""
    return [bar.judged(parts) for bar in BARS]


def _faster(ours: str, other: str, size: str) -> Callable[[Parts], float | None]:
    def measure(parts: Parts) -> float | None:
        return ratio(figure(parts[other], "sizes", size, "ms"), figure(parts[ours], "sizes", size, "ms"))

    return measure


def _first_over_next(name: str) -> Callable[[Parts], float | None]:
    """The most seconds that a size's first calls take beyond its median."""

    def measure(parts: Parts) -> float | None:
        over: list[float] = []
        for size in map(str, SIZES):
            first, usual = (figure(parts[name], "sizes", size, key) for key in ("first_ms", "ms"))
            if first is None or usual is None:
                return None
            over.append((max(first) - usual) / 1000)
        return max(over)

    return measure


def _weights(name: str) -> Callable[[Parts], float | None]:
    def measure(parts: Parts) -> float | None:
        nbytes = figure(parts[name], "weights", "bytes")
        return None if nbytes is None else nbytes / GB

    return measure


def _streamed(size: str, kind: str, part: str = "streaming") -> Callable[[Parts], float | None]:
    """Resident milliseconds over those with few weights on the card."""

    def measure(parts: Parts) -> float | None:
        figures = parts[part]
        return ratio(figure(figures, "resident", kind, size), figure(figures, _FEW, kind, size))

    return measure


def _over_offloading(parts: Parts) -> float | None:
    """Milliseconds of diffusers' faster group offloading over the project's with few weights on the card."""
    theirs = [figure(parts["group-offload"], name, "ms", NATIVE) for name in ("bf16", "fp8 storage")]
    there = [each for each in theirs if each is not None]
    return ratio(min(there, default=None), figure(parts["streaming"], _FEW, "ms", NATIVE))


def _bf16_over_diffusers(parts: Parts) -> float | None:
    """The error to FP32 over that of diffusers in BF16, the larger one of both sizes."""
    found = [
        ratio(*(figure(parts["numerics"], name, size, "to_fp32") for name in ("bf16", "diffusers bf16")))
        for size in (SMALLEST, NATIVE)
    ]
    known = [each for each in found if each is not None]
    return max(known) if len(known) == len(found) else None


def _bf16_to_diffusers(parts: Parts) -> float | None:
    """The error to diffusers in BF16 with plain random weights, the larger one of both sizes."""
    found = [
        figure(parts["numerics"], "plain weights", "bf16", size, "to_diffusers_bf16") for size in (SMALLEST, NATIVE)
    ]
    known = [each for each in found if each is not None]
    return max(known) if len(known) == len(found) else None


def _block_error(precision: str, which: str) -> Callable[[Parts], float | None]:
    def measure(parts: Parts) -> float | None:
        found: float | None = figure(parts["numerics"], "one block", precision, f"{which}_same_weights")
        return found

    return measure


def _sustained(parts: Parts) -> float | None:
    """The least rate of INT8 over that of FP8 of all products."""
    found = figure(parts["sustained"], "products")
    return None if not found else min(each["int8"]["tflops"] / each["fp8"]["tflops"] for each in found.values())


def _same_bits(parts: Parts) -> float | None:
    found = [
        figure(parts["numerics"], "same bits", precision)
        for precision in ("fp8", "fp8-attention", "int8", "int8-attention", "bf16")
    ]
    return None if None in found else float(all(all(each.values()) for each in found))


BARS = (
    *(
        Bar(f"FP8{how} over {title}, {size}", least, "x", (ours, other), _faster(ours, other, size))
        for ours, how in (("fp8-attention", ""), ("fp8", ", attention in 16 bits,"))
        for other, title, size, least in (
            ("diffusers", "diffusers eager", NATIVE, 2.0),
            ("diffusers", "diffusers eager", SMALLEST, 5.0),
            ("torchao", "torchao compiled", NATIVE, 1.25),
        )
    ),
    Bar("BF16 over diffusers eager, 1024/1024", 1.35, "x", ("bf16", "diffusers"), _faster("bf16", "diffusers", NATIVE)),
    Bar("BF16 over diffusers compiled, 1024/1024", 1.1, "x", ("bf16", "compiled"), _faster("bf16", "compiled", NATIVE)),
    *(
        Bar(
            f"{title} over diffusers compiled, CUDA graphs, {size}",
            1.0,
            "x",
            (ours, _GRAPHS),
            _faster(ours, _GRAPHS, size),
        )
        for size in (SMALLEST, NATIVE)
        for ours, title in (("bf16", "BF16"), ("fp8-attention", "FP8"))
    ),
    Bar(
        "FP8 over torchao compiled, 512/512",
        1.25,
        "x",
        ("fp8-attention", "torchao"),
        _faster("fp8-attention", "torchao", SMALLEST),
    ),
    Bar(
        f"{_FEW} of weights over diffusers' group offloading, 1024/1024",
        1.0,
        "x",
        ("streaming", "group-offload"),
        _over_offloading,
    ),
    *(
        Bar(f"first forwards at a new size over the next, {name}", 1.0, "s", (name,), _first_over_next(name), True)
        for name in _OURS
    ),
    Bar("weights on the card, FP8", 14.2, "GB", ("fp8",), _weights("fp8"), True),
    Bar("weights on the card, BF16", 27.8, "GB", ("bf16",), _weights("bf16"), True),
    Bar(f"{_FEW} of weights over resident, 1024/1024", 0.95, "share", ("streaming",), _streamed(NATIVE, "ms")),
    Bar(
        f"four swept with {_FEW} over resident, 768/768", 0.9, "share", ("streaming",), _streamed(MIDDLE, "several_ms")
    ),
    *(
        Bar(f"{name}, attention in FP8", least, "share", (_FP8_STREAMING,), _streamed(size, kind, _FP8_STREAMING))
        for name, least, size, kind in (
            (f"{_FEW} of weights over resident, {NATIVE}", 0.95, NATIVE, "ms"),
            (f"four swept with {_FEW} over resident, {MIDDLE}", 0.9, MIDDLE, "several_ms"),
        )
    ),
    Bar("BF16 to diffusers in BF16, plain random weights", 0.005, "share", ("numerics",), _bf16_to_diffusers, True),
    Bar("error of one block in BF16, its stream", 0.005, "share", ("numerics",), _block_error("bf16", "output"), True),
    Bar("error of BF16 to FP32 over that of diffusers", 1.1, "x", ("numerics",), _bf16_over_diffusers, True),
    Bar("error of one block in FP8, its update", 0.05, "share", ("numerics",), _block_error("fp8", "update"), True),
    Bar("the same with attention in FP8", 0.05, "share", ("numerics",), _block_error("fp8-attention", "update"), True),
    Bar("error of one block in INT8, its update", 0.02, "share", ("numerics",), _block_error("int8", "update"), True),
    *(
        Bar(f"INT8 over FP8, {how}, {NATIVE}", 0.95, "x", (ours, other), _faster(ours, other, NATIVE))
        for ours, other, how in (
            ("int8", "fp8", "attention in 16 bits"),
            ("int8-attention", "fp8-attention", "attention in FP8"),
        )
    ),
    Bar("INT8 product over FP8, sustained", 0.95, "x", ("sustained",), _sustained),
    Bar("same bits alone, again, streamed, swept", 1.0, "yes", ("numerics",), _same_bits),
)
