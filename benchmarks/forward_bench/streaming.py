"""Speed against weights on the card: some blocks stay, the others stream; forwards one by one, and several swept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import torch
from part_runs.part import Recorder
from part_runs.stopwatch import Stopwatch

from forward_bench.models import RING_SLOTS, Precision, forwards, inputs, ours
from forward_bench.setting import GB, MIDDLE, NATIVE, SIZES, SWEPT_AT, Setting
from qied.engine.transformer.transformer import Transformer
from qied.planning.layout.block_layout import BlockShape, block_layout

TARGETS = (None, 4.5, 7.0, 2.5, 10.0, 0.7)
"""Gigabytes of weights on the card; None is all of them. The ones that bars are about come first."""
SWEPT = 4
"""Forwards in one sweep."""
_CONSECUTIVE = 9


def measure(setting: Setting, record: Recorder) -> None:
    """Record milliseconds of consecutive forwards in FP8 for each amount of weights on the card."""
    _measure(setting, record, "fp8", TARGETS)


def with_fp8_attention(setting: Setting, record: Recorder) -> None:
    """The same with attention in FP8, which leaves the copies less time, for the amounts that bars are about."""
    _measure(setting, record, "fp8-attention", TARGETS[:2])


def _measure(setting: Setting, record: Recorder, precision: Precision, targets: Sequence[float | None]) -> None:
    with torch.inference_mode():
        for target in targets:
            name = "resident" if target is None else f"{target:g} GB"
            record.attempt(name, measure=partial(_at, setting, precision, target))


def _at(setting: Setting, precision: Precision, target: float | None) -> dict[str, Any]:
    """Figures of a transformer of which about ``target`` gigabytes are on the card."""
    watch = Stopwatch(torch.device(setting.device))
    watch.clear()
    resident = None if target is None else _resident(setting, target)
    transformer = ours(setting, precision, resident)
    found: dict[str, Any] = {
        "target_gb": target,
        "weights_bytes": transformer.device_bytes,
        "resident": setting.layers if resident is None else resident,
        "streamed_bytes": transformer.host_bytes,
        "ms": {},
    }
    for size in (size for size in SIZES if str(size) in (MIDDLE, NATIVE)):
        repeats = 2 if setting.quick else _CONSECUTIVE
        made = forwards(transformer, inputs(setting, size))
        one_by_one = _one_by_one(transformer, made)
        found["ms"][str(size)] = watch.consecutive(one_by_one, repeats, setting.warm_up)
        if target in (None, SWEPT_AT):
            # Those that are swept belong to different edits.
            several = [forwards(transformer, inputs(setting, size, seed))[seed % 2] for seed in range(SWEPT)]
            sweep = _sweep(transformer, several, together=target is not None)
            found.setdefault("several_ms", {})[str(size)] = watch.consecutive(sweep, repeats, setting.warm_up)
    return found


def _resident(setting: Setting, target: float) -> int:
    """How many blocks may stay beside the ring and what is in no block; in a quick run a share of them."""
    if setting.quick:
        return round(setting.layers * min(target / 13.6, 1.0))
    config = setting.config
    block = block_layout(
        BlockShape(setting.inner, 4 * setting.inner, config["attention_head_dim"]), "fp8", None, "bf16"
    )
    outside = 2 * setting.inner * (config["joint_attention_dim"] + 4 * setting.inner)
    left = target * GB - outside - RING_SLOTS * block.nbytes
    return max(0, min(setting.layers - RING_SLOTS, int(left // block.nbytes)))


def _one_by_one(transformer: Transformer, made: list[Any]) -> Callable[[], Any]:
    turns = cycle(made)
    return lambda: transformer.velocities([next(turns)])


def _sweep(transformer: Transformer, several: list[Any], *, together: bool) -> Callable[[], Any]:
    if together:
        return lambda: transformer.velocities(several)
    return lambda: [transformer.velocities([one]) for one in several]
