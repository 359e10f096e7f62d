"""The memory model against what was measured with it: README's first promise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from memory_bench.cases import CASES, SETUPS

from qied.hardware.snapshot import read_snapshot
from qied.planning.choosing.planner import PlanRequest, plan
from qied.planning.edits.workload import workload_of
from qied.planning.layout.memory import Tiles, model_of
from qied.planning.plan import Plan
from qied.planning.profiles.hardware_profile import shipped_hardware_profiles
from qied.planning.profiles.model_profile import shipped_profiles
from qied.planning.requests.quote import peak_alone

REPORT = json.loads((Path(__file__).parents[2] / "benchmarks" / "results" / "memory.json").read_text())
MODEL = shipped_profiles()["qwen-image-edit-2511"]
ROWS = {f"{row['setup']}, {row['case']}": row for row in REPORT["cases"]}


def planned(setup_name: str) -> Plan:
    """Today's plan of the machine that was measured."""
    setup = next(each for each in SETUPS if str(each) == setup_name)
    machine = read_snapshot(json.dumps(REPORT["machine"]).encode(), "memory.json")
    made = plan(machine, PlanRequest(MODEL, shipped_hardware_profiles(), setup.wishes()))
    assert isinstance(made, Plan)
    return made


PLANS = {name: planned(name) for name in dict.fromkeys(row["setup"] for row in REPORT["cases"])}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_no_edit_took_more_than_is_predicted_today(row: dict[str, Any]) -> None:
    made = PLANS[row["setup"]]
    # Bytes that were measured under another plan say nothing of this one: then benchmarks/memory.py has to run again.
    assert (made.execution.resident_blocks, made.max_pixels) == (row["plan"]["resident"], row["plan"]["max_pixels"])
    case = next(each for each in CASES if str(each) == row["case"])
    predicted = peak_alone(made, MODEL, workload_of(case.spec(), MODEL, made.max_reference_pixels))
    assert row["measured_bytes"] <= predicted <= 1.1 * row["measured_bytes"]


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_each_phase_and_the_host_took_no_more_than_is_predicted_today(row: dict[str, Any]) -> None:
    made = PLANS[row["setup"]]
    run, case = made.execution, next(each for each in CASES if str(each) == row["case"])
    work = workload_of(case.spec(), MODEL, made.max_reference_pixels)
    arena = model_of(run, MODEL).arena(work, Tiles(run.encode_tile_px, run.decode_tile_px), run.text_encoder)
    # What tiles round to is counted by the allocator's share, not by the phase: a hundredth.
    over = {phase: found["measured"] / getattr(arena, phase) for phase, found in row["phases"].items()}
    assert all(share <= 1.01 for share in over.values()), over
    assert row["host"]["measured"] <= made.host_bytes


def test_every_budget_and_case_was_measured() -> None:
    assert {row["setup"] for row in REPORT["cases"]} == {str(setup) for setup in SETUPS}
    assert {row["case"] for row in REPORT["cases"]} == {str(case) for case in CASES}
