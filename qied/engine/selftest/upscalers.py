"""Trials of upscaling models, in the self-test's process: what those of spandrel are, and what a card shows of each."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from qied.engine.selftest.child import Suite, TrialFacts
from qied.engine.upscale.live_bytes import live_bytes
from qied.engine.upscale.loading import load_network
from qied.engine.upscale.precision import HALVES, fastest_proven, half_errors
from qied.engine.upscale.spandrel_models import SpandrelNetwork
from qied.planning.edits.upscaling import LARGEST_TILE_PX, MARGIN_PX, SMALLEST_TILE_PX, UpscalerPrecision
from qied.upscalers.examined import FILES

_TRIED_PX: Final = SMALLEST_TILE_PX + 2 * MARGIN_PX
_COUNTED_PX: Final = (_TRIED_PX, (_TRIED_PX + LARGEST_TILE_PX) // 2, LARGEST_TILE_PX + 2 * MARGIN_PX)
_MEASURED_PX: Final = 2 * _TRIED_PX
"""Large enough that what a library takes whatever the size counts for little."""


def described() -> Suite:
    """What the models of spandrel are, and what they take for each pixel, counted."""
    return _suite(_described)


def card() -> Suite:
    """By how much half precisions are off on the first card of this process, and what FP32 takes for each pixel."""
    torch.ones(1, device="cuda")
    return _suite(partial(shown, device=torch.device("cuda", 0)))


def cpu() -> Suite:
    """The same of this process' CPU, where nothing is measured."""
    return _suite(partial(shown, device=torch.device("cpu")))


def _suite(trial: Callable[[Path], TrialFacts]) -> Suite:
    files: dict[str, str] = json.loads(os.environ[FILES])
    return Suite({name: partial(trial, Path(path)) for name, path in files.items()})


def _described(path: Path) -> TrialFacts:
    network, facts = load_network(path)
    return TrialFacts(
        {**vars(facts), "pixel_bytes": counted_bytes(network), "pixel_operations": counted_operations(network)}
    )


def counted_operations(network: nn.Module) -> int:
    """Operations for each pixel of a tile, two for each product, as torch counts them."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counted:
        network(torch.zeros(1, 3, _TRIED_PX, _TRIED_PX))
    operations: int = counted.get_total_flops()
    return math.ceil(operations / _TRIED_PX**2)


def counted_bytes(network: nn.Module) -> int:
    """Bytes of tensors in FP32 for each pixel of a tile, the most over tiles of all sizes.

    They are counted on torch's device "meta", which computes nothing. Networks that do not run there are run on the
    CPU, with the smallest tile.
    """
    with suppress(RuntimeError, NotImplementedError, ValueError, TypeError):
        return max(_for_each_pixel(deepcopy(network).to("meta"), side, "meta") for side in _COUNTED_PX)
    return _for_each_pixel(network, _TRIED_PX, "cpu")


def _for_each_pixel(network: nn.Module, side: int, device: str) -> int:
    return math.ceil(live_bytes(network, torch.zeros(1, 3, side, side, device=device)) / side**2)


def shown(path: Path, device: torch.device) -> TrialFacts:
    """The errors of half precisions, the one to take, and bytes for each pixel in FP32 (0: not measured)."""
    network, _ = load_network(path)
    halves = network.precisions if isinstance(network, SpandrelNetwork) else HALVES
    allowed: tuple[UpscalerPrecision, ...] = tuple(half for half in HALVES if half in halves)
    with torch.inference_mode():
        network.to(device)
        errors = half_errors(network, _noise(_TRIED_PX).to(device), allowed)
        measured = _measured(network, _MEASURED_PX, device) if device.type == "cuda" else 0
    precision = fastest_proven(errors)
    return TrialFacts(
        {"precision": precision, "measured_bytes": measured, **{str(half): e for half, e in errors.items()}}
    )


def _measured(network: nn.Module, side: int, device: torch.device) -> int:
    pictures = _noise(side).to(device)
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    network(pictures)
    torch.cuda.synchronize(device)
    return math.ceil((torch.cuda.max_memory_allocated(device) - before) / side**2)


def _noise(side: int) -> Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
