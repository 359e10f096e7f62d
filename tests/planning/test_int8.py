"""INT8 is taken where the self-test has proven it; where FP8 is proven too, the better one goes first."""

from __future__ import annotations

from typing import Any

import pytest

from qied.hardware.snapshot import SelfTest, Snapshot, Trial
from qied.planning.plan import Plan
from tests.planning.test_planner import GOLDEN, planned, read_snapshot, with_card


def proven(name: str, **trials: Any) -> Snapshot:
    """A recorded machine, with other results of its self-test."""
    snapshot = read_snapshot((GOLDEN / "snapshots" / f"{name}.json").read_bytes())
    known = snapshot.gpus[0].selftest or SelfTest()
    return with_card(snapshot, selftest=known.model_copy(update=trials))


def ran(tflops: float) -> Trial:
    return Trial(ok=True, tflops=tflops, relative_error=0.012)


def rate(snapshot: Snapshot, trial: str) -> float:
    assert snapshot.gpus[0].selftest is not None
    found: float = getattr(snapshot.gpus[0].selftest, trial).tflops
    return found


@pytest.mark.parametrize("name", ["rtx-3060-12gb", "rtx-3090-24gb", "a100-40gb"])
def test_cards_without_fp8_units_run_int8_where_it_was_proven(name: str) -> None:
    plain = proven(name)
    found = planned(proven(name, int8=ran(1.8 * rate(plain, "bf16"))))
    assert (found.precision, found.scaling, found.execution.compute) == ("int8", None, "bf16")
    assert "1.8 times BF16" in found.reasons[0]
    assert planned(plain).precision != "int8"


def test_turing_multiplies_int8_and_computes_the_rest_in_fp32() -> None:
    found = planned(proven("rtx-2080-ti-11gb", int8=ran(60.0)))
    assert (found.precision, found.execution.compute) == ("int8", "fp32")


@pytest.mark.parametrize(("share", "expected"), [(0.9, "fp8"), (0.96, "int8"), (1.5, "int8")])
def test_it_goes_before_fp8_where_it_is_about_as_fast(share: float, expected: str) -> None:
    plain = proven("rtx-4090-24gb")
    found = planned(proven("rtx-4090-24gb", int8=ran(share * rate(plain, "fp8_rowwise"))))
    assert found.precision == expected


@pytest.mark.parametrize(
    ("trial", "reason"),
    [
        (None, "INT8 was not run by the self-test"),
        (Trial(ok=False, error="wrong result"), "wrong result"),
        (ran(1.0), "INT8 is slower than BF16 here"),
    ],
)
def test_it_is_not_used_where_it_is_wrong_slow_or_untried(trial: Trial | None, reason: str) -> None:
    found = planned(proven("rtx-3060-12gb", int8=trial))
    assert found.precision != "int8"
    assert any(reason in each for each in found.reasons)


def test_it_takes_as_much_memory_as_fp8() -> None:
    in_fp8: Plan = planned(proven("rtx-4090-24gb"), precision="fp8")
    in_int8 = planned(proven("rtx-4090-24gb", int8=ran(500.0)), precision="int8")
    assert in_int8.predicted_peak_bytes == in_fp8.predicted_peak_bytes
    assert in_int8.execution.resident_blocks == in_fp8.execution.resident_blocks
