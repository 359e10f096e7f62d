"""Whether an upscaling model gives the same pictures in half precision, by a trial on the very device."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Final

import torch
from torch import Tensor, nn

from qied.engine.device_errors import is_exhausted
from qied.planning.edits.upscaling import UpscalerPrecision

DTYPES: Final[dict[UpscalerPrecision, torch.dtype]] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
HALVES: Final[tuple[UpscalerPrecision, ...]] = ("fp16", "bf16")
"""In the order of their accuracy."""
LARGEST_ERROR: Final = 1 / 255
"""The largest error of a half precision that is used: one level of 8 bits."""


def half_errors(
    network: nn.Module, pictures: Tensor, halves: Iterable[UpscalerPrecision] = HALVES
) -> dict[UpscalerPrecision, float]:
    """By how much results in half precisions are off from FP32, of 1, at the worst number; 1 where one does not run.

    ``pictures`` [N, 3, H, W] lie where the network does, which is FP32.
    """
    exact = network(pictures).clamp(0, 1)
    errors: dict[UpscalerPrecision, float] = {}
    for half in halves:
        try:
            rough = deepcopy(network).to(DTYPES[half])(pictures.to(DTYPES[half])).float().clamp(0, 1)
        except (RuntimeError, NotImplementedError) as error:
            if is_exhausted(error):
                raise
            errors[half] = 1.0  # an operation of it does not run so
            continue
        errors[half] = torch.nan_to_num((exact - rough).abs(), nan=1.0).max().item()
        del rough
    return errors


def fastest_proven(errors: dict[UpscalerPrecision, float]) -> UpscalerPrecision:
    """The first half precision whose error is small enough; FP32 where there is none."""
    return next((half for half in HALVES if errors.get(half, 1.0) <= LARGEST_ERROR), "fp32")
