"""Milliseconds and peak memory of encoding and decoding, whole and in tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from part_runs.part import Recorder
from part_runs.stopwatch import Stopwatch

from vae_bench.models import (
    diffusers_decode,
    diffusers_encode,
    diffusers_vae,
    latents,
    ours,
    picture,
    tile,
)
from vae_bench.setting import DIFFUSERS_TILE, Setting

WHOLE = "whole"
Calls = tuple[Callable[[], Any], Callable[[], Any]]
"""Encoding and decoding of one size."""


def measure_ours(setting: Setting, record: Recorder) -> None:
    """The project's VAE, whole and in tiles of several sizes."""
    with torch.inference_mode():
        vae = ours(setting)

        def calls(tile_px: int | None, side: int) -> Calls:
            tiled = replace(vae, encode_tile_px=tile_px, decode_tile_px=tile_px)
            pixels, cells = picture(setting, side), latents(setting, side)
            return partial(tiled.encode_pixels, pixels), partial(tiled._decode_pixels, cells)

        _sizes(setting, record, WHOLE, setting.sides, partial(calls, None))
        for tile_px in setting.tiles:
            larger = [side for side in setting.sides if side > tile_px]
            _sizes(setting, record, f"tiles of {tile_px}", larger, partial(calls, tile_px))


def measure_diffusers(setting: Setting, record: Recorder) -> None:
    """diffusers' VAE in BF16, whole and in tiles of its own default."""
    dtype = torch.bfloat16
    with torch.inference_mode():
        model = diffusers_vae(setting, dtype)

        def calls(side: int) -> Calls:
            pixels, cells = picture(setting, side), latents(setting, side)
            return partial(diffusers_encode, model, pixels, dtype), partial(diffusers_decode, model, cells, dtype)

        _sizes(setting, record, WHOLE, setting.sides, calls)
        if setting.tiles:
            tile(model)
            _sizes(setting, record, f"tiles of {DIFFUSERS_TILE[0]}", setting.sides, calls)


def _sizes(
    setting: Setting, record: Recorder, how: str, sides: tuple[int, ...] | list[int], calls: Callable[[int], Calls]
) -> None:
    for side in sides:
        for way, name in enumerate(("encode", "decode")):
            record.attempt(how, str(side), name, measure=partial(_figures, setting, calls, side, way))


def _figures(setting: Setting, calls: Callable[[int], Calls], side: int, way: int) -> dict[str, Any]:
    watch = Stopwatch(torch.device(setting.device))
    call = calls(side)[way]
    watch.forget_peaks()
    above = watch.allocated()
    first = watch.wall(call)
    return {"ms": watch.median(call, setting.repeats, setting.warm_up), "first_ms": first, **watch.peaks(above)}
