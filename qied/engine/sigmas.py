"""The noise schedule: sigmas of flow matching, shifted by the number of target tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from qied_client.errors import ModelUnsupported
from torch import Tensor

LIGHTNING_SHIFT = math.log(3)
"""Exponent of Lightning's shift, as its authors set it: sigma becomes 3 sigma / (1 + 2 sigma)."""

_TABLE = 1000
_WHOLE_DENOISE = 0.9999
"""KSampler goes through the whole schedule where denoise is more than this."""
_REFUSED = ("invert_sigmas", "stochastic_sampling", "use_beta_sigmas", "use_exponential_sigmas", "use_karras_sigmas")


@dataclass(frozen=True)
class ScheduleConfig:
    """What a checkpoint's scheduler says; lengths are target tokens, names are diffusers' own."""

    base_shift: float = 0.5
    max_shift: float = 1.15
    base_image_seq_len: int = 256
    max_image_seq_len: int = 4096
    shift_terminal: float | None = None


def schedule_config(config: Mapping[str, Any]) -> ScheduleConfig:
    """Read ``scheduler_config.json``; raises ModelUnsupported for a schedule of another kind."""
    name = config.get("_class_name")
    shift_type = config.get("time_shift_type", "exponential")
    if name != "FlowMatchEulerDiscreteScheduler" or shift_type != "exponential":
        raise _unsupported(f"{name} with {shift_type} time shift")
    if not config.get("use_dynamic_shifting", False):
        raise _unsupported("a schedule that is not shifted by the picture's size")
    for key in _REFUSED:
        if config.get(key, False):
            raise _unsupported(key)
    known = {key: config[key] for key in ScheduleConfig.__dataclass_fields__ if key in config}
    for key, value in known.items():
        if not _is_number(value) and not (key == "shift_terminal" and value is None):
            raise _unsupported(f"{key} = {value!r}, which is not a number")
    schedule = ScheduleConfig(**known)
    if schedule.base_image_seq_len == schedule.max_image_seq_len:
        raise _unsupported(f"a shift between two equal lengths of {schedule.max_image_seq_len} tokens")
    if not 0 <= (schedule.shift_terminal or 0) < 1:
        raise _unsupported(f"shift_terminal = {schedule.shift_terminal}, which is not below 1")
    return schedule


def lightning_schedule(config: ScheduleConfig) -> ScheduleConfig:
    """The schedule that Lightning was distilled with: a shift by 3 at every size, and no stretching at its end."""
    return replace(config, base_shift=LIGHTNING_SHIFT, max_shift=LIGHTNING_SHIFT, shift_terminal=None)


def shift_mu(config: ScheduleConfig, target_tokens: int) -> float:
    """Return the shift's exponent: linear in the number of target tokens, references not counted."""
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    intercept = config.base_shift - slope * config.base_image_seq_len
    return target_tokens * slope + intercept


def sigma_schedule(config: ScheduleConfig, steps: int, target_tokens: int) -> Tensor:
    """Return sigmas FP32 [steps + 1] on the CPU, from 1 down to the final 0.

    Equal to diffusers' FlowMatchEulerDiscreteScheduler bit for bit, so the same operations in the same order in FP32.
    One step is the exception: stretching a single sigma to ``shift_terminal`` divides zero by zero there; here the one
    step goes from pure noise straight to the picture.
    """
    if steps == 1:
        return torch.tensor([1.0, 0.0])
    sigmas: NDArray[Any] = np.linspace(1.0, 1 / steps, steps).astype(np.float32)
    exponential = math.exp(shift_mu(config, target_tokens))
    sigmas = exponential / (exponential + (1 / sigmas - 1))
    if config.shift_terminal:
        remaining = 1 - sigmas
        sigmas = 1 - remaining / (remaining[-1] / (1 - config.shift_terminal))
    return torch.cat([torch.from_numpy(sigmas).to(torch.float32), torch.zeros(1)])


def simple_sigmas(shift: float, steps: int, denoise: float = 1.0) -> Tensor:
    """Return sigmas FP32 [steps + 1] on the CPU as ComfyUI's KSampler with the scheduler "simple" has them.

    They are taken from its table of 1000 shifted timesteps, computed in FP32 as there. With a ``denoise`` of at most
    0.9999 they are the last ones of a schedule of steps / denoise steps.
    """
    if denoise <= _WHOLE_DENOISE:
        return simple_sigmas(shift, int(steps / denoise))[-(steps + 1) :]
    timesteps = torch.arange(1, _TABLE + 1) / _TABLE
    table = timesteps if shift == 1.0 else shift * timesteps / (1 + (shift - 1) * timesteps)
    places = [-(1 + int(step * (_TABLE / steps))) for step in range(steps)]
    return torch.cat([table[places], torch.zeros(1)])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _unsupported(what: str) -> ModelUnsupported:
    return ModelUnsupported(
        f"scheduler/scheduler_config.json asks for {what}, which this version does not support.",
        "Use the scheduler folder of Qwen/Qwen-Image-Edit-2511.",
    )
