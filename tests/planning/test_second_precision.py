"""A second precision beside the daemon's own: planned where the machine holds it, else left out with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qied.hardware.snapshot import Snapshot
from qied.planning.choosing.fitting import SECOND
from qied.planning.choosing.planner import PlanRequest, plan
from qied.planning.choosing.second_precision import planned_with_second
from qied.planning.edits.workload import largest_workload
from qied.planning.layout.memory import RING_SLOTS, MemoryModel, Precisions, Tiles, forwards_of, step_bytes
from qied.planning.plan import Plan, SecondPrecision
from qied.planning.profiles.hardware_profile import shipped_hardware_profiles
from qied.planning.profiles.model_profile import ModelProfile, shipped_profiles
from qied.planning.requests.serving import Serving, kind_of
from qied.planning.wishes import Wishes

MODEL, BUILTIN = shipped_profiles()["qwen-image-edit-2511"], shipped_profiles()["builtin"]
LARGE = PlanRequest(MODEL, shipped_hardware_profiles())
SMALL = replace(LARGE, model=BUILTIN)
Machine = Callable[..., Snapshot]
IN_BF16 = MemoryModel(MODEL, Precisions("bf16", None, "bf16"), "cuda").weights("streamed").block
ALL_BLOCKS = MODEL.architecture.layers * IN_BF16


def planned(snapshot: Snapshot, request: PlanRequest = LARGE, second: str = "bf16", **wishes: object) -> Plan:
    outcome = plan(snapshot, replace(request, wishes=Wishes(second_precision=second, **wishes)))  # type: ignore[arg-type]
    assert isinstance(outcome, Plan), outcome
    return outcome


def part(made: Plan) -> int:
    return sum(each.bytes for each in made.parts if each.name == SECOND)


def why_not(made: Plan) -> list[str]:
    return [warning for warning in made.warnings if "model.second_precision is bf16" in warning]


def test_blocks_in_bf16_stream_from_the_host_beside_fp8(machine: Machine) -> None:
    snapshot = machine((8, 9), 24, host=128)
    made, plain = (planned(snapshot, second=second, precision="fp8-storage") for second in ("bf16", "off"))
    assert made.execution.second == SecondPrecision("bf16", RING_SLOTS, pin=True)
    assert (made.precision, part(made)) == (plain.precision, RING_SLOTS * IN_BF16)
    assert made.predicted_peak_bytes == sum(each.bytes for each in made.parts) <= made.budget_bytes
    # Fewer blocks stay where the ring is, and those that stream instead take host memory too.
    more = (plain.execution.resident_blocks - made.execution.resident_blocks) * (
        MemoryModel(MODEL, Precisions("fp8-storage", "rowwise", "bf16"), "cuda").host_block
    )
    assert made.host_bytes - made.decoding_bytes == plain.host_bytes - plain.decoding_bytes + ALL_BLOCKS + more
    assert made.pinned_bytes >= ALL_BLOCKS
    assert not why_not(made) and any("passes may name BF16 as well" in reason for reason in made.reasons)
    assert (made.to_json()["second_precision"], made.sources["second_precision"]) == ("bf16", "default")


def test_nobody_gets_it_who_did_not_ask(machine: Machine) -> None:
    made = planned(machine((9, 0), 80, host=512), second="off", precision="fp8-storage")
    assert made.execution.second is None and not part(made) and made.to_json()["second_precision"] is None


def test_a_host_that_does_not_hold_it_serves_without_and_says_how_much_is_missing(machine: Machine) -> None:
    snapshot = machine((8, 9), 24, host=32)
    made, plain = (planned(snapshot, second=second, precision="fp8-storage") for second in ("bf16", "off"))
    assert replace(made, warnings=()) == replace(plain, warnings=(), sources=made.sources)
    (why,) = why_not(made)
    assert "the worker needs" in why and "of host memory, and 27.8 GiB are free" in why


def test_the_first_precision_is_never_another_for_it(machine: Machine) -> None:
    snapshot = machine((8, 9), 24, host=64)
    first = {second: planned(snapshot, second=second).precision for second in ("bf16", "off")}
    assert first["bf16"] == first["off"]


@pytest.mark.parametrize("precision", ["bf16", "auto"])
def test_a_daemon_in_bf16_needs_no_other(machine: Machine, precision: str) -> None:
    made = planned(machine((8, 0), 80, host=256), precision=precision)
    assert (made.precision, made.execution.second, why_not(made)) == ("bf16", None, [])


def test_files_in_fp8_give_no_bf16(machine: Machine) -> None:
    request = replace(LARGE, second_refused="the files of the model hold fp8_scaled")
    made = planned(machine((8, 9), 24, host=256), request, precision="fp8-storage")
    assert made.execution.second is None
    assert why_not(made)[0].endswith("the daemon's: the files of the model hold fp8_scaled.")


@pytest.mark.parametrize(
    ("precision", "there"), [("int8", True), ("fp8", True), ("fp8-storage", True), ("fp32", False)]
)
def test_on_the_cpu_it_lies_beside_what_is_simulated(machine: Machine, precision: str, there: bool) -> None:
    made = planned(machine(), SMALL, precision=precision, device="cpu")
    blocks = (
        BUILTIN.architecture.layers
        * MemoryModel(BUILTIN, Precisions("bf16", None, "bf16"), "cpu").weights("resident").block
    )
    assert (made.execution.second is not None, part(made)) == (there, blocks if there else 0)
    assert [why.endswith("it computes in FP32.") for why in why_not(made)] == [True] * (not there)


def test_it_runs_as_a_worker_of_its_precision_does(machine: Machine) -> None:
    made = planned(machine((8, 9), 24, host=128), precision="fp8-storage")
    run = replace(made.execution, attention=("fp8", "cudnn", "math"), stored_block_bytes=5).of_second
    assert (run.precision, run.scaling, run.compute, run.second) == ("bf16", None, "bf16", None)
    assert (run.resident_blocks, run.ring_slots, run.pin, run.stored_block_bytes) == (0, RING_SLOTS, True, 0)
    assert run.attention == ("cudnn", "math")
    simulated = planned(machine(), SMALL, precision="int8", device="cpu").execution.of_second
    assert (simulated.resident_blocks, simulated.ring_slots) == (6, 0)


def test_workers_with_it_are_of_another_kind_and_passes_have_it_where_all_do(machine: Machine) -> None:
    snapshot = machine((8, 9), 24, host=128)
    made, plain = (planned(snapshot, second=second, precision="fp8-storage") for second in ("bf16", "off"))
    assert kind_of(made.execution) != kind_of(replace(made.execution, second=None))
    seconds = [Serving(MODEL, plans).second_precision for plans in ((made,), (made, made), (made, plain), (plain,))]
    assert seconds == ["bf16", "bf16", None, None]


@pytest.mark.parametrize("precision", ["int8", "fp8", "fp8-storage"])
@pytest.mark.parametrize("model", [MODEL, BUILTIN], ids=["2511", "builtin"])
def test_a_step_in_bf16_fits_the_arena_of_any_other_precision(model: ModelProfile, precision: Any) -> None:
    for side in (256, 512, 1024, 2048):
        work = largest_workload(model, side * side, min(side * side, model.geometry.vae_pixels))
        first, second = (
            MemoryModel(model, Precisions(name, "rowwise" if name == "fp8" else None, "bf16"), "cuda")
            for name in (precision, "bf16")
        )
        tiles = Tiles(256, 256)
        assert second.arena(work, tiles, "streamed").denoise <= first.arena(work, tiles, "streamed").denoise
        assert step_bytes(second.shape, forwards_of(work)) == step_bytes(first.shape, forwards_of(work))


def test_a_plan_whose_first_precision_would_change_is_not_taken(machine: Machine) -> None:
    snapshot, request = machine((8, 9), 24, host=128), replace(LARGE, wishes=Wishes(second_precision="bf16"))
    plain = planned(snapshot, second="off", precision="fp8-storage")
    other = replace(planned(snapshot, precision="fp8-storage"), precision="int8")
    made = planned_with_second(snapshot, request, lambda second: other if second else plain)
    assert isinstance(made, Plan) and made.precision == "fp8-storage" and why_not(made)


@settings(max_examples=40)
@given(data=st.data())
def test_a_second_precision_fits_and_leaves_the_first_as_it_is(
    data: st.DataObject, any_snapshot: st.SearchStrategy[Snapshot]
) -> None:
    snapshot = data.draw(any_snapshot)
    wishes = Wishes(precision=data.draw(st.sampled_from(["auto", "fp8-storage"])))
    plain, made = (
        plan(snapshot, replace(LARGE, wishes=replace(wishes, second_precision=second))) for second in ("off", "bf16")
    )
    assert isinstance(made, Plan) == isinstance(plain, Plan)
    if isinstance(made, Plan) and isinstance(plain, Plan):
        assert (made.precision, made.scaling) == (plain.precision, plain.scaling)
        assert made.predicted_peak_bytes <= made.budget_bytes
        assert (made.execution.second is not None) == (part(made) > 0)
        assert made.execution.second is not None or made.precision == "bf16" or why_not(made)
