"""The ids that programs rely on."""

from __future__ import annotations

from qied.doctor.catalogue import CHECKS
from qied.doctor.checkup import run_checks
from qied.doctor.deep import DeepChecks, not_deep
from qied.doctor.findings import Status

IDS = [
    "system.daemon",
    "python.version", "package.diffusers", "package.transformers", "package.safetensors", "package.pyzmq", "zmq.curve",
    "driver.present", "driver.cards", "driver.cuda", "driver.fp8",
    "torch.installed", "torch.cuda_build", "torch.kernels", "torch.vae_memory", "torch.sees_card",
    "card.capability", "card.several", "card.memory", "card.pcie", "card.selftest",
    "host.memory", "host.container", "host.memlock",
    "config.valid", "plan.profile", "plan.made", "plan.warnings",
    "model.found", "model.files", "model.weights", "model.tokenizer", "model.zero_cond_t",
    "state.folder", "state.keys", "state.file_system", "state.disk", "port.free", "port.floods", "clock.sane",
]  # fmt: skip


def test_ids_are_stable_and_unlike_each_other():
    assert [check.id for check in CHECKS] == IDS
    assert len(set(IDS)) == len(IDS)


def test_deep_ids_are_there_whether_they_were_asked_for_or_not(facts):
    deep = DeepChecks(lambda what, done, total: None, None)
    assert [check.id for check in deep.checks] == [check.id for check in not_deep()]
    checkup = run_checks(not_deep(), facts())
    assert {found.status for found in checkup.findings} == {Status.SKIPPED}


def test_every_warning_and_error_of_a_bad_machine_says_why_and_what_to_do(facts, machine):
    bad = machine(
        driver={"version": "470.1"},
        torch=None,
        packages={"diffusers": "0.30.0", "pyzmq": None},
        gpu={"compute_capability": [6, 1], "memory_free_bytes": 0, "pcie": {"width": 1, "width_max": 16}},
    )
    checkup = run_checks(CHECKS, facts(bad))
    problems = checkup.of(Status.ERROR) + checkup.of(Status.WARNING)
    assert len(problems) >= 7
    assert all(found.why and found.remedy for found in problems)
