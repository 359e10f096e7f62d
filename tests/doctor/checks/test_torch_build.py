"""Torch is there, built for the card, and reaches it."""

from __future__ import annotations

import pytest

from qied.doctor.findings import Status
from qied.planning.choosing.torch_builds import install_command


def test_torch_is_there(facts, ask):
    assert ask("torch.installed", facts()).status is Status.OK


def test_torch_is_missing(facts, machine, ask):
    assert ask("torch.installed", facts(machine(torch=None))).status is Status.ERROR


def test_a_torch_that_cannot_be_imported_is_told_with_the_reason(facts, machine, ask):
    found = ask(
        "torch.installed", facts(machine(problems={"torch_broken": "torch 2.13 cannot be imported: no libcudart."}))
    )
    assert found.status is Status.ERROR
    assert "libcudart" in found.message


def test_a_build_without_cuda_beside_a_card_is_an_error(facts, machine, ask):
    assert ask("torch.cuda_build", facts()).status is Status.OK
    found = ask("torch.cuda_build", facts(machine(torch={"version": "2.13.0+cpu", "cuda": None})))
    assert found.status is Status.ERROR
    assert found.remedy == install_command((8, 9), here=True)


def test_a_build_without_cuda_is_fine_where_there_is_no_card(facts, machine, ask):
    snapshot = machine(gpu=None, driver=None, torch={"version": "2.13.0+cpu", "cuda": None})
    assert ask("torch.cuda_build", facts(snapshot)).status is Status.SKIPPED


@pytest.mark.parametrize(
    ("capability", "arch_list", "status"),
    [
        ([8, 9], ["sm_86"], Status.OK),
        ([12, 0], ["sm_75", "sm_80", "sm_86", "sm_90"], Status.ERROR),
        ([12, 0], ["sm_90", "compute_90"], Status.OK),
        ([12, 0], ["sm_100"], Status.ERROR),
        ([9, 0], ["sm_90a"], Status.OK),
        ([8, 0], ["sm_86"], Status.ERROR),
        ([8, 9], [], Status.SKIPPED),
    ],
)
def test_torch_must_have_kernels_for_the_card(facts, machine, ask, capability, arch_list, status):
    snapshot = machine(gpu={"compute_capability": capability}, torch={"arch_list": arch_list})
    assert ask("torch.kernels", facts(snapshot)).status is status


def test_a_second_card_without_kernels_is_a_warning(facts, machine, ask):
    snapshot = machine(gpus=[{}, {"index": 1, "name": "NVIDIA GeForce RTX 5090", "compute_capability": [12, 0]}])
    found = ask("torch.kernels", facts(snapshot))
    assert (found.status, "RTX 5090 (sm_120)" in found.message) == (Status.WARNING, True)
    assert found.remedy == install_command((12, 0), here=True)


def test_a_card_that_is_too_old_for_qied_does_not_choose_the_torch_of_another_one(facts, machine, ask):
    old = {"index": 1, "name": "NVIDIA TITAN V", "compute_capability": [7, 0]}
    snapshot = machine(gpus=[{"compute_capability": [12, 0]}, old], torch={"arch_list": ["sm_75", "sm_120"]})
    assert ask("torch.kernels", facts(snapshot)).status is Status.OK
    alone = machine(gpus=[old], torch={"arch_list": ["sm_75", "sm_120"]})
    assert "cu126" in ask("torch.kernels", facts(alone)).remedy


@pytest.mark.parametrize(("cuda", "package"), [("12.8", "nvidia-cudnn-cu12>="), ("13.0", "nvidia-cudnn-cu13>=")])
def test_the_newer_cudnn_is_that_of_torchs_cuda(facts, machine, ask, cuda, package):
    snapshot = machine(driver={"version": "580.95"}, torch={"version": "2.9.1", "cuda": cuda, "cudnn": "91002"})
    assert package in ask("torch.vae_memory", facts(snapshot)).remedy


@pytest.mark.parametrize(
    ("version", "cudnn", "status"),
    [
        ("2.9.1+cu128", "91002", Status.WARNING),
        ("2.9.1+cu128", "9.10.2", Status.WARNING),
        ("2.9.1+cu128", "91402", Status.WARNING),
        ("2.9.1+cu128", "91501", Status.OK),
        ("2.9.1+cu128", "9.15.1", Status.OK),
        ("2.9.1+cu128", None, Status.SKIPPED),
        ("2.10.0+cu128", "91002", Status.OK),
    ],
)
def test_torch_2_9_needs_a_newer_cudnn_for_the_vae(facts, machine, ask, version, cudnn, status):
    assert ask("torch.vae_memory", facts(machine(torch={"version": version, "cudnn": cudnn}))).status is status


def test_cuda_that_does_not_start_beside_a_visible_card_is_an_error(facts, machine, ask):
    assert ask("torch.sees_card", facts()).status is Status.OK
    found = ask("torch.sees_card", facts(machine(problems={"cuda_failed": "CUDA does not work: CUDA_ERROR_UNKNOWN."})))
    assert found.status is Status.ERROR
    assert "modprobe nvidia_uvm" in found.remedy


def test_a_self_test_that_found_no_card_says_the_same(facts, machine, ask):
    lost = {"ok": False, "error": "the self-test does not run: No CUDA GPUs are available"}
    found = ask("torch.sees_card", facts(machine(gpu={"selftest": {"bf16": lost, "fp8_rowwise": lost}})))
    assert found.status is Status.ERROR
