"""The planner: reviewed plans of recorded machines, and what holds for any machine."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qied.hardware.snapshot import Gpu, Pcie, Problem, SelfTest, Snapshot, Trial, read_snapshot
from qied.planning.choosing.planner import PlanRequest, plan, plan_cards
from qied.planning.edits.workload import largest_workload
from qied.planning.layout.memory import forwards_of, model_of, step_bytes
from qied.planning.plan import Plan, Refusal
from qied.planning.profiles.hardware_profile import shipped_hardware_profiles
from qied.planning.profiles.model_profile import shipped_profiles
from qied.planning.wishes import Wishes

GIB = 1024**3
GOLDEN = Path(__file__).parent / "golden"
RECORDED = sorted(file.stem for file in (GOLDEN / "snapshots").glob("*.json"))
PROFILES = shipped_hardware_profiles()
LARGE = PlanRequest(shipped_profiles()["qwen-image-edit-2511"], PROFILES)
SMALL = PlanRequest(shipped_profiles()["builtin"], PROFILES)

Machine = Callable[..., Snapshot]


def planned(snapshot: Snapshot, request: PlanRequest = LARGE, **wishes: object) -> Plan:
    outcome = plan(snapshot, replace(request, wishes=Wishes(**wishes)))  # type: ignore[arg-type]
    assert isinstance(outcome, Plan), outcome
    return outcome


def refused(snapshot: Snapshot, request: PlanRequest = LARGE, **wishes: object) -> Refusal:
    outcome = plan(snapshot, replace(request, wishes=Wishes(**wishes)))  # type: ignore[arg-type]
    assert isinstance(outcome, Refusal), outcome
    return outcome


def with_card(snapshot: Snapshot, **changes: object) -> Snapshot:
    return snapshot.model_copy(update={"gpus": (snapshot.gpus[0].model_copy(update=changes),)})


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_machine_gets_the_plan_that_was_reviewed(name: str) -> None:
    snapshot = read_snapshot((GOLDEN / "snapshots" / f"{name}.json").read_bytes())
    expected = json.loads((GOLDEN / "plans" / f"{name}.json").read_text())
    assert plan(snapshot, LARGE).to_json() == expected


def test_there_are_enough_recorded_machines_and_no_plan_without_one() -> None:
    assert len(RECORDED) >= 25
    assert {file.stem for file in (GOLDEN / "plans").glob("*.json")} == set(RECORDED)


# The three statements that people ask for first.


def test_twelve_gigabytes_stream_fp8_at_1024_with_eight_sessions(machine: Machine) -> None:
    found = planned(machine((8, 9), 12))
    assert found.precision == "fp8"
    assert 0 < found.execution.resident_blocks < 60
    assert found.max_pixels >= 1024 * 1024
    assert found.sessions.at_max_pixels >= 8


def test_twenty_four_gigabytes_hold_all_blocks(machine: Machine) -> None:
    assert planned(machine((8, 9), 24)).execution.resident_blocks == 60


def test_as_much_is_swept_as_the_largest_edits_own_step_takes_and_nothing_where_all_blocks_stay(
    machine: Machine,
) -> None:
    streamed, resident = planned(machine((8, 9), 12)), planned(machine((8, 9), 24))
    work = largest_workload(LARGE.model, streamed.max_pixels, streamed.max_reference_pixels)
    numbers = model_of(streamed.execution, LARGE.model).shape
    assert streamed.execution.sweep_bytes == step_bytes(numbers, forwards_of(work))
    assert 0 < streamed.execution.sweep_bytes < streamed.arena_bytes
    assert resident.execution.sweep_bytes == 0


def test_eight_gigabytes_still_serve_1024(machine: Machine) -> None:
    found = planned(machine((8, 9), 8, free=7.6))
    assert found.max_pixels >= 1024 * 1024
    assert found.predicted_peak_bytes <= found.budget_bytes


# What holds for any machine.


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(data=st.data())
def test_a_plan_keeps_to_its_budget_and_a_refusal_says_what_to_do(
    data: st.DataObject, any_snapshot: st.SearchStrategy[Snapshot]
) -> None:
    snapshot = data.draw(any_snapshot)
    outcome = plan(snapshot, data.draw(st.sampled_from([LARGE, SMALL])))
    if isinstance(outcome, Refusal):
        assert outcome.code and len(outcome.message) > 20 and len(outcome.remedy) > 20
        return
    assert outcome.predicted_peak_bytes <= outcome.budget_bytes
    assert sum(part.bytes for part in outcome.parts) == outcome.predicted_peak_bytes
    assert outcome.sessions.at_max_pixels >= 1
    if outcome.execution.device == "cuda":
        assert outcome.execution.allocator_bytes < outcome.budget_bytes


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_fp8_is_never_chosen_where_its_self_test_is_not_ok(
    data: st.DataObject, any_working_machine: st.SearchStrategy[Snapshot]
) -> None:
    snapshot = data.draw(any_working_machine)
    for gpu, outcome in zip(snapshot.gpus, plan_cards(snapshot, LARGE), strict=True):
        if not isinstance(outcome, Plan) or gpu.selftest is None:
            continue
        if outcome.precision == "fp8":
            trial = gpu.selftest.fp8_rowwise if outcome.scaling == "rowwise" else gpu.selftest.fp8_tensorwise
            assert trial is not None and trial.ok
            assert gpu.selftest.bf16 is None or gpu.selftest.bf16.ok
            bf16 = gpu.selftest.bf16.tflops if gpu.selftest.bf16 is not None else None
            assert trial.tflops is None or trial.tflops >= (bf16 or 0)
        if outcome.precision == "fp8-storage":
            assert gpu.selftest.fp8_storage is None or gpu.selftest.fp8_storage.ok


@settings(max_examples=1000, deadline=None)
@given(data=st.data())
def test_a_plan_is_the_same_after_its_snapshot_was_written_and_read(
    data: st.DataObject, any_snapshot: st.SearchStrategy[Snapshot]
) -> None:
    snapshot = data.draw(any_snapshot)
    again = read_snapshot(snapshot.to_json())
    assert again == snapshot
    assert plan(again, LARGE) == plan(snapshot, LARGE)


@pytest.mark.slow
@settings(max_examples=750, deadline=None)
@given(data=st.data())
def test_more_of_anything_never_gives_less(
    data: st.DataObject, any_working_machine: st.SearchStrategy[Snapshot]
) -> None:
    snapshot = data.draw(any_working_machine)
    gpu = snapshot.gpus[0]
    before = plan_cards(snapshot, LARGE)[0]
    if isinstance(before, Refusal):
        return
    host = snapshot.host
    more_host = data.draw(st.integers(0, 256 * GIB))
    grown_host = host.model_copy(
        update={name: size + more_host for name in _SIZES if (size := getattr(host, name)) is not None}
    )
    grown = snapshot.model_copy(update={"host": grown_host, "gpus": (_grown(gpu, data),)})
    after = plan_cards(grown, LARGE)[0]
    assert isinstance(after, Plan), after
    assert after.max_pixels >= before.max_pixels
    assert after.max_reference_pixels >= before.max_reference_pixels
    assert after.execution.resident_blocks >= before.execution.resident_blocks
    assert after.sessions.at_max_pixels >= before.sessions.at_max_pixels


_SIZES = ("memory_total_bytes", "memory_available_bytes", "memory_limit_bytes", "memlock_limit_bytes")


def _grown(gpu: Gpu, data: st.DataObject) -> Gpu:
    """The same card with more memory, used no more than before, and a faster link."""
    more = data.draw(st.one_of(st.integers(0, GIB), st.integers(0, 100 * GIB)))
    changes: dict[str, object] = {
        name: size + more
        for name in ("memory_total_bytes", "memory_free_bytes")
        if (size := getattr(gpu, name)) is not None
    }
    if gpu.selftest is not None and gpu.selftest.host_to_device_bytes_per_s is not None:
        rate = gpu.selftest.host_to_device_bytes_per_s * 2
        changes["selftest"] = gpu.selftest.model_copy(update={"host_to_device_bytes_per_s": rate})
    changes["pcie"] = Pcie(generation=5, width=16, generation_max=5, width_max=16)
    return gpu.model_copy(update=changes)


# Single decisions.


def proven(**trials: Trial) -> SelfTest:
    right = Trial(ok=True, tflops=100.0, relative_error=0.003)
    return SelfTest(**{"bf16": right, "fp8_storage": right, **trials})  # type: ignore[arg-type]


FAST = Trial(ok=True, tflops=190.0, relative_error=0.037)
WRONG = Trial(ok=False, error="wrong result")


def test_row_wise_comes_before_per_tensor(machine: Machine) -> None:
    both = with_card(machine(), selftest=proven(fp8_rowwise=FAST, fp8_tensorwise=FAST))
    assert planned(both).scaling == "rowwise"


def test_per_tensor_is_used_where_row_wise_failed_and_the_reason_is_told(machine: Machine) -> None:
    found = planned(with_card(machine(), selftest=proven(fp8_rowwise=WRONG, fp8_tensorwise=FAST)))
    assert (found.precision, found.scaling) == ("fp8", "tensorwise")
    assert any("wrong result" in reason for reason in found.reasons)


def test_fp8_that_is_slower_than_bf16_becomes_storage(machine: Machine) -> None:
    slow = Trial(ok=True, tflops=60.0, relative_error=0.037)
    found = planned(with_card(machine(), selftest=proven(fp8_rowwise=slow, fp8_tensorwise=slow)))
    assert found.precision == "fp8-storage"
    assert any("slower than BF16" in reason for reason in found.reasons)


def test_fp8_products_that_the_self_test_did_not_run_are_not_proven(machine: Machine) -> None:
    assert planned(with_card(machine(), selftest=proven())).precision == "fp8-storage"


def test_ordinary_products_need_no_trial_but_may_not_have_failed_one(machine: Machine) -> None:
    only_fp8 = SelfTest(fp8_rowwise=WRONG, fp8_tensorwise=WRONG)
    assert planned(with_card(machine(), selftest=only_fp8)).precision == "fp8-storage"
    assert planned(with_card(machine((7, 5), 11, host=128), selftest=SelfTest())).precision == "fp8-storage"
    failed = only_fp8.model_copy(update={"fp8_storage": WRONG})
    assert planned(with_card(machine((8, 9), 80), selftest=failed)).precision == "bf16"


def test_row_wise_is_no_first_guess_for_a_torch_that_lacks_it(machine: Machine) -> None:
    old = machine().model_copy(update={"torch": machine().torch.model_copy(update={"version": "2.6.0+cu126"})})
    assert (planned(machine()).scaling, planned(old).scaling) == ("rowwise", "tensorwise")


def test_attention_is_left_to_the_backends_that_were_proven_the_fastest_first(machine: Machine) -> None:
    fast, slow = Trial(ok=True, tflops=90.0), Trial(ok=True, tflops=30.0)
    tried = {"flash_128": slow, "cudnn_128": fast, "efficient_128": WRONG, "math_64": fast}
    found = planned(with_card(machine(), selftest=proven(fp8_rowwise=FAST).model_copy(update={"attention": tried})))
    assert found.execution.attention == ("cudnn", "flash")
    assert planned(machine()).execution.attention == ()


def test_a_card_that_nothing_was_run_on_gets_a_guess_and_a_warning(machine: Machine) -> None:
    found = planned(machine())
    assert found.precision == "fp8"
    assert any("No self-test" in warning for warning in found.warnings)


def test_a_wished_precision_is_taken_or_refused_but_not_replaced(machine: Machine) -> None:
    assert planned(machine((8, 9), 80), precision="bf16").precision == "bf16"
    refusal = refused(machine((8, 6), 24), precision="fp8")
    assert refusal.code == "precision_unavailable"
    assert "8.9" in refusal.message


def test_the_small_model_runs_in_bf16_where_fp8_would_gain_nothing(machine: Machine) -> None:
    assert planned(machine(), SMALL).precision == "bf16"


def test_turing_computes_in_fp32_and_says_that_it_is_slow(machine: Machine) -> None:
    found = planned(machine((7, 5), 11))
    assert (found.precision, found.execution.compute) == ("fp8-storage", "fp32")
    assert any("slow" in warning for warning in found.warnings)


def test_wished_limits_bound_the_plan_and_are_named_as_its_source(machine: Machine) -> None:
    origins = {"budget_bytes": "command line (--vram)", "target_pixels": "file (limits.target_pixels)"}
    found = planned(machine((9, 0), 140), budget_bytes=8 * 10**9, target_pixels=700_000, max_active=3, origins=origins)
    assert found.budget_bytes == 8 * 10**9
    assert found.max_pixels == 700_000
    assert found.sessions.limit == 3
    assert found.sources["budget_bytes"] == "command line (--vram)"
    assert found.sources["max_pixels"] == "file (limits.target_pixels)"


def test_a_budget_above_what_is_free_changes_nothing(machine: Machine) -> None:
    assert planned(machine(), budget_bytes=10**12) == planned(machine())


def test_the_better_of_two_cards_is_planned_for_and_each_can_be_asked_for(machine: Machine) -> None:
    small, large = machine((8, 6), 12).gpus[0], machine((8, 9), 24).gpus[0].model_copy(update={"index": 1})
    both = machine().model_copy(update={"gpus": (small, large)})
    assert planned(both).execution.device_index == 1
    assert planned(both, gpu=0).execution.device_index == 0
    assert refused(both, gpu=2).code == "no_such_gpu"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"torch": None}, "torch_missing"),
        ({"gpus": ()}, "no_gpu"),
        ({"gpus": (), "driver": None}, "no_driver"),
    ],
    ids=["torch", "card", "driver"],
)
def test_what_is_missing_is_named(machine: Machine, changes: dict[str, object], code: str) -> None:
    assert refused(machine().model_copy(update=changes)).code == code


@pytest.mark.parametrize("gpus", [0, 1])
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_on_windows_itself_nothing_is_served_and_wsl2_is_named(machine: Machine, gpus: int, device: str) -> None:
    linux = machine()
    windows = linux.model_copy(
        update={"os": linux.os.model_copy(update={"system": "Windows"}), "gpus": linux.gpus[:gpus]}
    )
    for request in (LARGE, SMALL):
        refusal = refused(windows, request, device=device)
        assert refusal.code == "native_windows"
        assert "WSL2" in refusal.message
        assert "wsl --install" in refusal.remedy
    assert all(isinstance(outcome, Refusal) for outcome in plan_cards(windows, SMALL))


@pytest.mark.parametrize("code", ["cuda_failed", "driver_mismatch"])
def test_a_card_that_cuda_cannot_use_is_refused_but_not_the_small_model(machine: Machine, code: str) -> None:
    broken = machine().model_copy(update={"problems": (Problem(code=code, message="CUDA does not work here."),)})
    assert refused(broken).code == "cuda_unavailable"
    assert planned(broken, SMALL).precision == "cpu"


def test_cards_that_a_variable_hides_are_told_from_cards_that_are_not_there(machine: Machine) -> None:
    hidden = Problem(code="gpus_hidden", message="CUDA_VISIBLE_DEVICES=7 leaves none of the 2 cards visible.")
    refusal = refused(machine().model_copy(update={"gpus": (), "problems": (hidden,)}))
    assert "CUDA_VISIBLE_DEVICES" in refusal.message


def test_the_large_model_is_refused_on_a_cpu_and_the_small_one_is_not(machine: Machine) -> None:
    bare = machine().model_copy(update={"gpus": (), "driver": None, "torch": None})
    assert refused(bare, device="cpu").code == "cpu_too_slow"
    found = planned(bare, SMALL)
    assert (found.precision, found.gpu) == ("cpu", "CPU")


def test_a_broken_card_sends_the_small_model_to_the_cpu_with_the_reason(machine: Machine) -> None:
    old = machine((6, 1), 8)
    assert any("compute capability 6.1" in reason for reason in planned(old, SMALL).reasons)
    assert refused(old, SMALL, device="cuda").code == "capability_too_old"


def test_a_card_of_unknown_capability_is_refused(machine: Machine) -> None:
    assert refused(with_card(machine(), compute_capability=None)).code == "unknown_card"


def test_without_profiles_there_is_no_plan(machine: Machine) -> None:
    assert refused(machine(), replace(LARGE, profiles=())).code == "no_profile"
    assert refused(machine(), replace(SMALL, profiles=()), device="cpu").code == "no_profile"


def test_a_containers_limit_counts_as_host_memory(machine: Machine) -> None:
    wide = machine((8, 9), 8, free=7.6, host=64)
    host = wide.host.model_copy(update={"memory_limit_bytes": 8 * GIB})
    assert refused(wide.model_copy(update={"host": host})).code == "host_memory_too_small"


def test_what_others_use_of_a_containers_limit_is_not_free(machine: Machine) -> None:
    wide = machine((8, 9), 8, free=7.6, host=64)
    limits = {"memory_limit_bytes": 32 * GIB, "memory_limit_used_bytes": 26 * GIB}
    crowded = wide.model_copy(update={"host": wide.host.model_copy(update=limits)})
    assert refused(crowded).code == "host_memory_too_small"
    roomy = wide.host.model_copy(update={**limits, "memory_limit_used_bytes": 2 * GIB})
    assert planned(wide.model_copy(update={"host": roomy})).precision == "fp8"


def test_what_wsl2_does_not_pin_streams_from_pageable_memory(machine: Machine) -> None:
    linux = machine((8, 9), 8, free=7.6, host=18)
    assert planned(linux).execution.pin
    wsl = linux.os.model_copy(update={"release": "5.15.153.1-microsoft-standard-WSL2"})
    found = planned(linux.model_copy(update={"os": wsl}))
    assert not found.execution.pin
    assert found.pinned_bytes == 0
    assert any("more than may be pinned" in warning for warning in found.warnings)


def test_of_several_refusals_the_one_that_is_mended_most_easily_is_told(machine: Machine) -> None:
    old = machine((6, 1), 8).gpus[0]
    full = machine((8, 9), 12, free=1.0).gpus[0].model_copy(update={"index": 1})
    assert refused(machine().model_copy(update={"gpus": (old, full)})).code == "vram_too_small"


@pytest.mark.parametrize(
    ("wishes", "free", "remedy"),
    [
        (
            {"budget_bytes": 3 * GIB, "origins": {"budget_bytes": "command line (--vram)"}},
            23.0,
            "command line (--vram)",
        ),
        ({"cache_bytes": 100 * GIB}, 23.0, "worker.cache_bytes"),
        ({}, 2.0, "closing other programs"),
    ],
    ids=["budget", "caches", "programs"],
)
def test_what_to_do_about_too_little_memory_depends_on_who_has_it(machine, wishes, free, remedy) -> None:
    assert remedy in refused(machine((8, 9), 24, free=free), **wishes).remedy


def test_a_card_that_is_too_small_is_not_mended_by_closing_programs(machine: Machine) -> None:
    assert "Use a card with more memory" in refused(machine((7, 5), 3, free=2.9)).remedy


def test_a_card_of_unknown_memory_needs_to_be_told_how_much(machine: Machine) -> None:
    unknown = with_card(machine(), memory_total_bytes=None, memory_free_bytes=None)
    assert refused(unknown).code == "unknown_memory"
    assert planned(unknown, budget_bytes=12 * 10**9).budget_bytes == 12 * 10**9


def test_a_card_and_the_cpu_are_not_asked_for_at_once(machine: Machine) -> None:
    assert "Leave one of the two out" in refused(machine(), device="cpu", gpu=0).remedy
    bare = machine().model_copy(update={"gpus": (), "driver": None})
    assert "model.device at auto" in refused(bare, SMALL, device="cuda").remedy


def test_host_memory_that_cannot_hold_what_streams_is_a_refusal_with_the_number(machine: Machine) -> None:
    refusal = refused(machine((8, 9), 8, free=7.6, host=8))
    assert refusal.code == "host_memory_too_small"
    assert "GiB" in refusal.remedy


def test_a_cpu_without_enough_memory_is_a_refusal(machine: Machine) -> None:
    bare = machine(host=4).model_copy(update={"gpus": (), "driver": None})
    host = bare.host.model_copy(update={"memory_available_bytes": 64 * 1024 * 1024})
    assert refused(bare.model_copy(update={"host": host}), SMALL).code == "host_memory_too_small"


def test_a_narrow_link_and_little_locked_memory_are_told_where_blocks_stream(machine: Machine) -> None:
    narrow = with_card(machine(), pcie=Pcie(generation=4, width=4, generation_max=4, width_max=16))
    narrow = narrow.model_copy(update={"host": narrow.host.model_copy(update={"memlock_limit_bytes": 65536})})
    warnings = " ".join(planned(narrow).warnings)
    assert "4 of 16 PCIe lanes" in warnings
    assert "64 KiB" in warnings
    wide = planned(machine((8, 9), 24).model_copy(update={"host": narrow.host}))
    assert not any("Locked memory" in warning for warning in wide.warnings)
