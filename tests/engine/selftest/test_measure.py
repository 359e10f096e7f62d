"""Errors and times of kernels are judged by stated limits."""

from __future__ import annotations

import math

import pytest
import torch

from qied.engine.selftest.measure import judged, median_seconds, relative_error

FAST_S = 0.001
OPERATIONS = 2e9


def test_a_right_and_fast_result_is_ok():
    trial = judged(0.0371234567, 0.06, OPERATIONS, FAST_S, FAST_S * 1.9)
    assert trial.model_dump() == {"ok": True, "tflops": 2.0, "relative_error": 0.037123, "error": None}


def test_an_error_beyond_the_limit_is_a_wrong_result():
    trial = judged(0.061, 0.06, OPERATIONS, FAST_S, FAST_S * 2)
    assert not trial.ok
    assert trial.error == "wrong result: relative error 0.061 against FP32, at most 0.06 is allowed"


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_never_right(error):
    trial = judged(error, 0.06, OPERATIONS, FAST_S)
    assert not trial.ok
    assert trial.relative_error is None


def test_slower_than_bf16_says_by_how_much():
    trial = judged(0.03, 0.06, OPERATIONS, FAST_S * 3, FAST_S * 2)
    assert not trial.ok
    assert trial.error == "slower than BF16: 1.50 times its time (3 ms against 2 ms)"


def test_a_hair_slower_is_noise():
    assert judged(0.03, 0.06, OPERATIONS, FAST_S * 1.01, FAST_S).ok


def test_the_relative_error_is_that_of_the_norms():
    reference = torch.tensor([[3.0, 4.0]])
    assert relative_error(reference, reference) == 0
    assert relative_error(reference * 1.1, reference) == pytest.approx(0.1, rel=1e-5)


def test_weights_make_small_rows_count():
    reference = torch.tensor([[1000.0], [1.0]])
    wrong_in_the_small_row = torch.tensor([[1000.0], [2.0]])
    assert relative_error(wrong_in_the_small_row, reference) < 0.01
    assert relative_error(wrong_in_the_small_row, reference, reference) > 0.5


def test_the_median_forgives_an_interruption_and_a_short_work_runs_more_often():
    calls = []

    def clock(work, runs):
        work()
        calls.append((work(), runs))
        interrupted = 100.0 if len(calls) == 6 else 1.0
        return interrupted * runs * (0.001 if work() == "short" else 0.02)

    short, long = median_seconds(clock, lambda: "short", lambda: "long")
    assert short == pytest.approx(0.001)
    assert long == pytest.approx(0.02)
    assert {runs for work, runs in calls[4:] if work == "short"} == {10}
    assert {runs for work, runs in calls[4:] if work == "long"} == {1}
