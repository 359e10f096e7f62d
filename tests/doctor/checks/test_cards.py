"""What a card can do, who else uses it, and how it is connected."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qied.doctor.findings import Status

GIB = 1024**3


@pytest.mark.parametrize(
    ("capability", "status"),
    [
        ([6, 1], Status.ERROR),
        ([7, 0], Status.ERROR),
        ([7, 5], Status.WARNING),
        ([8, 0], Status.OK),
        (None, Status.SKIPPED),
    ],
)
def test_a_card_must_be_turing_or_newer(facts, machine, ask, capability, status):
    assert ask("card.capability", facts(machine(gpu={"compute_capability": capability}))).status is status


def test_one_card_that_is_new_enough_is_enough(facts, machine, ask):
    snapshot = machine(gpus=[{}, {"index": 1, "name": "NVIDIA TITAN V", "compute_capability": [7, 0]}])
    found = ask("card.capability", facts(snapshot))
    assert found.status is Status.OK
    assert "TITAN" not in found.message


def test_different_cards_are_named_with_the_one_whose_plan_is_shown(facts, machine, ask):
    snapshot = machine(gpus=[{}, {"index": 1, "name": "NVIDIA GeForce RTX 3060", "compute_capability": [8, 6]}])
    found = ask("card.several", facts(snapshot))
    assert found.status is Status.OK
    assert "NVIDIA GeForce RTX 4070, NVIDIA GeForce RTX 3060. The plan shown is that of NVIDIA" in found.message


def test_a_desktop_on_the_card_is_no_news(facts, ask):
    assert ask("card.memory", facts()).status is Status.OK


def test_other_programs_on_the_card_are_named_the_largest_first(facts, machine, ask):
    processes = [
        {"pid": 1, "name": "firefox", "used_bytes": GIB},
        {"pid": 2, "name": "python", "used_bytes": 3 * GIB},
        {"pid": 3},
    ]
    found = ask("card.memory", facts(machine(gpu={"memory_free_bytes": 7 * GIB, "processes": processes})))
    assert found.status is Status.WARNING
    assert "5.0 GiB of 12.0 GiB" in found.message
    assert "python (3.0 GiB), firefox (1.0 GiB), process 3" in found.message


def test_an_idle_links_lower_generation_is_no_finding(facts, ask):
    assert ask("card.pcie", facts()).status is Status.OK


def test_a_link_with_fewer_lanes_than_it_could_have_is(facts, machine, ask):
    link = {"generation": 1, "width": 4, "generation_max": 4, "width_max": 16}
    found = ask("card.pcie", facts(machine(gpu={"pcie": link})))
    assert found.status is Status.WARNING
    assert "4 of 16 PCIe lanes, at most 7.9 GB/s" in found.message


def test_a_link_that_is_not_known_is_skipped(facts, machine, ask):
    assert ask("card.pcie", facts(machine(gpu={"pcie": None}))).status is Status.SKIPPED


def test_of_two_cards_the_worse_one_is_told(facts, machine, ask):
    narrow = {"index": 1, "name": "NVIDIA B", "pcie": {"width": 1, "width_max": 16}}
    found = ask("card.pcie", facts(machine(gpus=[{}, narrow])))
    assert (found.status, found.message) == (Status.WARNING, "NVIDIA B has 1 of 16 PCIe lanes.")


def with_trials(machine, capability=(8, 9), **trials):
    good = {"ok": True, "tflops": 60.0}
    tests = {"bf16": good, **{name: good if trial is None else trial for name, trial in trials.items()}}
    return machine(gpu={"compute_capability": list(capability), "selftest": tests})


BROKEN = {"ok": False, "error": "CUBLAS_STATUS_NOT_SUPPORTED"}
FAST = {"ok": True, "tflops": 110.0}


def test_a_self_test_that_went_well_is_fine(facts, ask):
    found = ask("card.selftest", facts())
    assert (found.status, "120 TFLOPS (BF16 60)" in found.message) == (Status.OK, True)


def test_one_way_of_fp8_is_enough_and_the_other_one_is_told(facts, machine, ask):
    found = ask("card.selftest", facts(with_trials(machine, fp8_rowwise=BROKEN, fp8_tensorwise=FAST)))
    assert found.status is Status.OK
    assert "not row-wise: CUBLAS_STATUS_NOT_SUPPORTED" in found.message


def test_fp8_that_fails_both_ways_is_told_with_the_reason(facts, machine, ask):
    found = ask("card.selftest", facts(with_trials(machine, fp8_rowwise=BROKEN, fp8_tensorwise=BROKEN)))
    assert (found.status, "CUBLAS_STATUS_NOT_SUPPORTED" in found.message) == (Status.WARNING, True)


def test_fp8_that_is_slower_than_bf16_is_told(facts, machine, ask):
    slow = {"ok": True, "tflops": 31.0}
    found = ask("card.selftest", facts(with_trials(machine, fp8_rowwise=slow, fp8_tensorwise=slow)))
    assert (found.status, "31 against 60 TFLOPS" in found.message) == (Status.WARNING, True)


def test_fp8_that_is_as_fast_as_bf16_is_used_and_so_no_finding(facts, machine, ask):
    same = {"ok": True, "tflops": 60.0}
    examined = facts(with_trials(machine, fp8_rowwise=same, fp8_tensorwise=same))
    assert examined.plan.precision == "fp8"
    assert ask("card.selftest", examined).status is Status.OK


def test_what_is_used_until_fp8_works_is_what_the_plan_uses(facts, machine, planned, ask):
    snapshot = with_trials(machine, fp8_rowwise=BROKEN, fp8_tensorwise=BROKEN)
    for precision, words in (("bf16", "until then BF16 is used"), ("fp8-storage", "until then FP8 storage is used")):
        plan = replace(planned(snapshot), precision=precision)
        assert words in ask("card.selftest", facts(snapshot, plan=plan)).remedy
    assert "until then" not in ask("card.selftest", facts(snapshot, plan=None)).remedy


def test_a_plan_for_another_card_says_nothing_of_this_one(facts, machine, planned, ask):
    snapshot = with_trials(machine, fp8_rowwise=BROKEN, fp8_tensorwise=BROKEN)
    plan = planned(snapshot)
    elsewhere = replace(plan, execution=replace(plan.execution, device_index=1))
    assert "until then" not in ask("card.selftest", facts(snapshot, plan=elsewhere)).remedy


def test_parts_of_a_card_are_told_apart_by_their_uuid(facts, machine, planned):
    snapshot = machine(gpus=[{"uuid": "MIG-1111"}, {"uuid": "MIG-2222"}])
    examined = facts(snapshot, plan=replace(planned(snapshot), gpu_uuid="MIG-2222"))
    assert [examined.plan_of(gpu) is not None for gpu in snapshot.gpus] == [False, True]


def test_fp8_storage_that_fails_is_told(facts, machine, ask):
    examined = facts(with_trials(machine, fp8_storage=BROKEN, fp8_rowwise=FAST))
    found = ask("card.selftest", examined)
    assert (found.status, "FP8 storage failed" in found.message) == (Status.WARNING, True)
    assert "until then FP8 is used" in found.remedy


def test_attention_that_fails_in_all_kernels_is_an_error_and_one_that_runs_is_enough(facts, machine, ask):
    found = ask("card.selftest", facts(with_trials(machine, attention={"flash_128": BROKEN, "math_128": BROKEN})))
    assert (found.status, "CUBLAS_STATUS_NOT_SUPPORTED" in found.message) == (Status.ERROR, True)
    fine = with_trials(machine, attention={"flash_128": BROKEN, "math_128": FAST})
    assert ask("card.selftest", facts(fine)).status is Status.OK


def test_bf16_that_failed_where_that_was_expected_is_not_said_to_run(facts, machine, ask):
    found = ask("card.selftest", facts(with_trials(machine, (7, 5), bf16=BROKEN, fp8_storage=FAST)))
    assert found.status is Status.OK
    assert "BF16" not in found.message


def test_a_self_test_in_which_nothing_ran_has_not_passed(facts, machine, ask):
    assert ask("card.selftest", facts(machine(gpu={"selftest": {}}))).status is Status.SKIPPED


def test_the_remedy_for_an_old_card_names_only_options_that_are_there(facts, machine, ask):
    assert "--device" not in ask("card.capability", facts(machine(gpu={"compute_capability": [7, 0]}))).remedy


def test_bf16_that_fails_on_a_card_that_has_it_is_an_error(facts, machine, ask):
    found = ask("card.selftest", facts(with_trials(machine, bf16={"ok": False, "error": "illegal address"})))
    assert (found.status, "illegal address" in found.message) == (Status.ERROR, True)


def test_fp8_that_fails_on_ampere_is_what_was_expected(facts, machine, ask):
    found = ask("card.selftest", facts(with_trials(machine, (8, 6), fp8_rowwise=BROKEN, fp8_tensorwise=BROKEN)))
    assert found.status is Status.OK


def test_where_nothing_was_run_nothing_has_passed(facts, machine, ask):
    assert ask("card.selftest", facts(machine(gpu={"selftest": None}))).status is Status.SKIPPED


@pytest.mark.parametrize("check", ["card.capability", "card.several", "card.memory", "card.pcie", "card.selftest"])
def test_without_a_card_the_checks_of_cards_are_skipped(facts, machine, ask, check):
    assert ask(check, facts(machine(gpu=None, driver=None))).status is Status.SKIPPED
