"""Configuration, plan and refusal become findings."""

from __future__ import annotations

from dataclasses import replace

from qied_client.errors import ConfigError

from qied.doctor.catalogue import CHECKS
from qied.doctor.checkup import run_checks
from qied.doctor.findings import Status
from qied.planning.plan import Refusal


def test_a_valid_configuration(facts, ask):
    assert ask("config.valid", facts()).status is Status.OK


def test_a_wrong_configuration_is_told_and_what_needs_it_is_skipped(facts, ask):
    wrong = facts(config=ConfigError("qied.toml:2: daemon.listn is not a known key.", "Remove it."), plan=None)
    found = ask("config.valid", wrong)
    assert (found.status, found.message, found.remedy) == (
        Status.ERROR,
        "qied.toml:2: daemon.listn is not a known key.",
        "Remove it.",
    )
    assert ask("port.free", wrong).status is Status.SKIPPED
    missing = facts(config=ConfigError("x.toml: No such file.", "Correct the path."), plan=None)
    assert "does not know" not in ask("config.valid", missing).why, "it holds for any error"


def test_a_plan_and_its_profile(facts, ask):
    assert ask("plan.made", facts()).status is Status.OK
    assert "ada-12gb" in ask("plan.profile", facts()).message


def test_a_refusal_is_an_error_with_its_remedy_and_its_cause(facts, machine, ask):
    found = ask("plan.made", facts(machine(driver={"version": "470.82.01"})))
    assert (found.status, found.cause) == (Status.ERROR, "driver.cuda")
    assert "Update the NVIDIA driver" in found.remedy
    assert ask("plan.profile", facts(plan=Refusal("vram_too_small", "Too small.", "Buy."))).status is Status.SKIPPED


def test_an_error_of_planning_is_told_as_it_is(facts, ask):
    found = ask("plan.made", facts(plan=ConfigError("mine.toml:3: choose.", "Correct it.")))
    assert (found.status, found.message) == (Status.ERROR, "mine.toml:3: choose.")


def test_a_planner_that_breaks_is_a_failure_of_the_doctor(facts):
    (check,) = [check for check in CHECKS if check.id == "plan.made"]
    checkup = run_checks([check], facts(plan=ZeroDivisionError("by zero")))
    assert checkup.summary.exit_status(strict=False) == 3
    assert "ZeroDivisionError" in checkup.findings[0].message


def test_warnings_of_the_plan_are_told(facts, machine, planned, ask):
    assert ask("plan.warnings", facts()).status is Status.OK
    plan = replace(planned(machine()), warnings=("It is slow.",))
    found = ask("plan.warnings", facts(plan=plan))
    assert (found.status, found.message) == (Status.WARNING, "It is slow.")


def test_what_other_checks_tell_with_a_remedy_is_not_told_twice(facts, machine, planned, ask):
    snapshot = machine(
        host={"memlock_limit_bytes": 8 * 1024**2},
        gpu={
            "selftest": {"fp8_tensorwise": {"ok": True, "tflops": 90.0}, "bf16": {"ok": True, "tflops": 50.0}},
            "memory_free_bytes": 9 * 1024**3,
            "pcie": {"width": 4, "width_max": 16},
            "processes": [{"pid": 1, "name": "game", "used_bytes": 3 * 1024**3}],
        },
    )
    assert len(planned(snapshot).warnings) == 3
    assert ask("plan.warnings", facts(snapshot)).status is Status.OK
    for check in ("host.memlock", "card.pcie", "card.memory"):
        assert ask(check, facts(snapshot)).status is Status.WARNING
