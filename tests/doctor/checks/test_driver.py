"""The driver is there, new enough, and serves all cards."""

from __future__ import annotations

import pytest

from qied.doctor.findings import Status


def test_a_driver_that_shows_a_card_is_fine(facts, ask):
    assert ask("driver.present", facts()).status is Status.OK


def test_without_a_driver_nothing_can_be_served(facts, machine, ask):
    found = ask("driver.present", facts(machine(driver=None, gpu=None)))
    assert found.status is Status.ERROR
    assert "--gpus all" in found.remedy


def test_without_a_driver_the_built_in_model_is_served_all_the_same(facts, machine, ask):
    found = ask("driver.present", facts(machine(driver=None, gpu=None), overrides={"model.device": "cpu"}))
    assert found.status is Status.OK


def test_a_driver_that_shows_no_card_is_told_from_one_that_is_missing(facts, machine, ask):
    found = ask("driver.present", facts(machine(gpu=None)))
    assert (found.status, "shows no card" in found.message) == (Status.ERROR, True)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [("gpus_hidden", "CUDA_VISIBLE_DEVICES"), ("driver_mismatch", "restart"), ("no_driver", "Install")],
)
def test_what_probing_met_is_told_with_its_remedy(facts, machine, ask, code, remedy):
    found = ask("driver.present", facts(machine(gpu=None, driver=None, problems={code: "It is so."})))
    assert (found.status, found.message) == (Status.ERROR, "It is so.")
    assert remedy in found.remedy


def test_a_card_that_does_not_answer_is_told(facts, machine, ask):
    assert ask("driver.cards", facts()).status is Status.OK
    found = ask("driver.cards", facts(machine(problems={"gpu_lost": "Card 1 does not answer."})))
    assert (found.status, found.message) == (Status.WARNING, "Card 1 does not answer.")
    assert ask("driver.cards", facts()).message == "1 card answers."
    two = machine(gpus=[{}, {"index": 1, "uuid": "GPU-2"}])
    assert ask("driver.cards", facts(two)).message == "2 cards answer."


def test_a_card_that_cuda_leaves_out_is_told_with_what_gives_it_back(facts, machine, ask):
    found = ask("driver.cards", facts(machine(problems={"cuda_misses_card": "CUDA does not give NVIDIA X."})))
    assert (found.status, found.message) == (Status.WARNING, "CUDA does not give NVIDIA X.")
    assert "/dev/nvidia" in found.remedy


@pytest.mark.parametrize(
    ("driver", "torch_cuda", "system", "release", "status"),
    [
        ("525.60.13", "12.6", "Linux", "6.8.0", Status.OK),
        ("525.60.12", "12.6", "Linux", "6.8.0", Status.ERROR),
        ("527.41", "12.1", "Windows", "10", Status.OK),
        ("527.40", "12.1", "Windows", "10", Status.ERROR),
        ("526.00", "12.1", "Linux", "5.15.0-microsoft-standard-WSL2", Status.ERROR),
        ("580.65.06", "13.0", "Linux", "6.8.0", Status.OK),
        ("575.57", "13.0", "Linux", "6.8.0", Status.ERROR),
    ],
)
def test_the_driver_must_reach_the_floor_of_torchs_cuda(
    facts, machine, ask, driver, torch_cuda, system, release, status
):
    snapshot = machine(
        driver={"version": driver}, torch={"cuda": torch_cuda}, os={"system": system, "release": release}
    )
    found = ask("driver.cuda", facts(snapshot))
    assert found.status is status, found.message


def test_a_cuda_whose_floor_is_not_known_is_compared_by_its_major_version(facts, machine, ask):
    old = machine(driver={"version": "600.1", "cuda": "13.2"}, torch={"cuda": "14.0"})
    new = machine(driver={"version": "700.1", "cuda": "14.1"}, torch={"cuda": "14.0"})
    mute = machine(driver={"version": "700.1", "cuda": None}, torch={"cuda": "14.0"})
    assert [ask("driver.cuda", facts(each)).status for each in (old, new, mute)] == [
        Status.ERROR,
        Status.OK,
        Status.SKIPPED,
    ]


def test_a_card_with_fp8_units_wants_the_floors_of_fp8(facts, machine, ask):
    assert ask("driver.fp8", facts()).status is Status.OK
    found = ask("driver.fp8", facts(machine(driver={"version": "530.30.02"}, torch={"version": "2.2.0"})))
    assert found.status is Status.WARNING
    assert "driver 530.30.02" in found.message
    assert "torch 2.2.0" in found.message
    precision = {"bf16": "BF16", "fp8-storage": "FP8 storage"}
    examined = facts(machine(driver={"version": "530.30.02"}, torch={"version": "2.2.0"}))
    assert f"until then {precision[examined.plan.precision]} is used" in found.remedy


def test_a_driver_that_is_too_old_for_torch_is_told_once(facts, machine, ask):
    assert ask("driver.fp8", facts(machine(driver={"version": "470.82.01"}))).status is Status.SKIPPED


def test_linux_inside_windows_has_the_driver_of_windows_and_the_torch_of_linux(facts, machine, ask):
    wsl = {"system": "Linux", "release": "5.15.0-microsoft-standard-WSL2"}
    snapshot = machine(os=wsl, driver={"version": "560.94"}, torch={"version": "2.3.1"})
    assert ask("driver.fp8", facts(snapshot)).status is Status.OK


def test_a_card_without_fp8_units_is_not_asked_for_them(facts, machine, ask):
    found = ask("driver.fp8", facts(machine(gpu={"compute_capability": [8, 6]}, driver={"version": "530.30.02"})))
    assert found.status is Status.SKIPPED
