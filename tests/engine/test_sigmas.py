import json
import math

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import calculate_shift
from hypothesis import given, settings
from hypothesis import strategies as st
from qied_client.errors import ModelUnsupported

from qied.engine.sigmas import ScheduleConfig, lightning_schedule, schedule_config, sigma_schedule
from qied.resources import builtin_model_folder

STORED = json.loads((builtin_model_folder() / "scheduler" / "scheduler_config.json").read_text())
LIGHTNING = {**STORED, "base_shift": math.log(3), "max_shift": math.log(3), "shift_terminal": None}


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([STORED, LIGHTNING]), st.integers(2, 100), st.integers(1, 20000))
def test_schedules_equal_those_of_diffusers_bit_for_bit(
    stored: dict[str, object], steps: int, target_tokens: int
) -> None:
    config = schedule_config(stored)
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(stored)
    names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
    mu = calculate_shift(target_tokens, *(stored[name] for name in names))
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    assert torch.equal(sigma_schedule(config, steps, target_tokens), scheduler.sigmas)


@given(st.integers(1, 200), st.integers(1, 20000))
def test_every_schedule_falls_from_one_to_zero(steps: int, target_tokens: int) -> None:
    sigmas = sigma_schedule(schedule_config(STORED), steps, target_tokens)
    assert len(sigmas) == steps + 1
    assert sigmas[0] == 1 and sigmas[-1] == 0
    assert torch.all(sigmas[1:] < sigmas[:-1])


def test_the_last_sigma_before_zero_is_the_terminal_one() -> None:
    assert sigma_schedule(schedule_config(STORED), 20, 256)[-2].item() == pytest.approx(0.02, rel=1e-4)


def test_four_steps_of_the_distilled_schedule_are_the_published_ones() -> None:
    sigmas = sigma_schedule(schedule_config(LIGHTNING), 4, 4096)
    assert sigmas.tolist() == pytest.approx([1, 0.9, 0.75, 0.5, 0], abs=1e-6)


def test_missing_settings_have_the_defaults_of_diffusers() -> None:
    config = schedule_config({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True})
    assert config == ScheduleConfig(0.5, 1.15, 256, 4096, None)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"time_shift_type": "linear"}, "linear"),
        ({"use_dynamic_shifting": False}, "not shifted"),
        ({"stochastic_sampling": True}, "stochastic_sampling"),
        ({"_class_name": "DDIMScheduler"}, "DDIMScheduler"),
        ({"base_shift": "0.5"}, "base_shift = '0.5'"),
        ({"max_shift": None}, "max_shift = None"),
        ({"max_shift": True}, "max_shift = True"),
        ({"max_shift": float("nan")}, "max_shift = nan"),
        ({"base_image_seq_len": 256, "max_image_seq_len": 256}, "equal lengths of 256 tokens"),
        ({"shift_terminal": "x"}, "shift_terminal = 'x'"),
        ({"shift_terminal": 1.0}, "shift_terminal = 1.0"),
    ],
)
def test_schedules_of_another_kind_are_refused_by_name(change: dict[str, object], named: str) -> None:
    with pytest.raises(ModelUnsupported, match=named):
        schedule_config({**STORED, **change})


def test_lightnings_schedule_is_its_authors_at_every_size() -> None:
    config = lightning_schedule(schedule_config(STORED))
    assert config == schedule_config(LIGHTNING)
    for tokens in (64, 4096, 16384):
        assert sigma_schedule(config, 4, tokens).tolist() == pytest.approx([1, 0.9, 0.75, 0.5, 0])
