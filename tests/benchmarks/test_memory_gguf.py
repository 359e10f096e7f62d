"""The memory of a GGUF file's plan, of the card and of a host with little of it, against what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from memory_bench.cases import CASES, GGUF_SETUPS

from qied.hardware.snapshot import read_snapshot
from qied.planning.choosing.planner import PlanRequest, plan
from qied.planning.edits.workload import workload_of
from qied.planning.plan import Plan
from qied.planning.profiles.hardware_profile import shipped_hardware_profiles
from qied.planning.profiles.model_profile import shipped_profiles
from qied.planning.requests.quote import peak_alone

REPORT = json.loads((Path(__file__).parents[2] / "benchmarks" / "results" / "memory-gguf.json").read_text())
MODEL = shipped_profiles()["qwen-image-edit-2511"]
ROWS = {f"{row['setup']}, {row['case']}": row for row in REPORT["cases"]}
SETUPS = {str(setup): setup for setup in GGUF_SETUPS}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_card_and_host_took_no_more_than_is_planned_today(row: dict[str, Any]) -> None:
    setup = SETUPS[row["setup"]]
    machine = read_snapshot(json.dumps(REPORT["machine"]).encode(), "memory-gguf.json")
    host = {"memory_total_bytes": setup.host_bytes, "memory_available_bytes": setup.host_bytes * 9 // 10}
    machine = machine.model_copy(update={"host": machine.host.model_copy(update=host)})
    stored = row["plan"]["stored_block_bytes"]
    made = plan(machine, PlanRequest(MODEL, shipped_hardware_profiles(), setup.wishes(), stored_block=stored))
    assert isinstance(made, Plan)
    # Bytes that were measured under another plan say nothing of this one: then benchmarks/memory.py has to run again.
    assert (made.execution.resident_blocks, made.max_pixels) == (row["plan"]["resident"], row["plan"]["max_pixels"])
    case = next(each for each in CASES if str(each) == row["case"])
    predicted = peak_alone(made, MODEL, workload_of(case.spec(), MODEL, made.max_reference_pixels))
    assert row["measured_bytes"] <= predicted <= row["plan"]["budget_bytes"]
    assert row["host"]["measured"] <= made.host_bytes <= setup.host_bytes
    assert row["loading_host"]["measured"] <= made.host_bytes


def test_every_setup_and_case_that_fits_was_measured() -> None:
    assert {row["setup"] for row in ROWS.values()} == set(SETUPS)
    assert {row["case"] for row in ROWS.values()} >= {str(case) for case in CASES if case.width * case.height < 2**21}
