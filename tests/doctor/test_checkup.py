"""Checks run, break and add up."""

from __future__ import annotations

import pytest
from qied_client.errors import ConfigError

from qied.doctor.checkup import NOT_THIS_MACHINE, Check, joined, run_checks
from qied.doctor.findings import Status, Summary, error, ok, skipped, warning, worst


def check(identifier, answer, **options):
    def ask(facts):
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Check(identifier, "Because.", ask, **options)


def test_a_check_that_breaks_is_an_error_under_its_id_and_the_others_are_asked(facts):
    checkup = run_checks([check("a.a", ok("Fine.")), check("b.b", KeyError("x")), check("c.c", ok("Fine."))], facts())
    assert [(found.id, found.status) for found in checkup.findings] == [
        ("a.a", Status.OK),
        ("b.b", Status.ERROR),
        ("c.c", Status.OK),
    ]
    assert "KeyError" in checkup.findings[1].message
    assert "Traceback" in checkup.traces["b.b"]
    assert checkup.summary.exit_status(strict=False) == 3


def test_a_typed_error_is_a_finding_and_no_failure_of_the_doctor(facts):
    checkup = run_checks([check("a.a", ConfigError("Wrong.", "Correct it."))], facts())
    assert (checkup.findings[0].message, checkup.findings[0].remedy) == ("Wrong.", "Correct it.")
    assert checkup.summary.exit_status(strict=False) == 2


def test_a_local_check_is_not_asked_about_another_machine(facts):
    checkup = run_checks([check("a.a", AssertionError(), local=True)], facts(this_machine=False))
    assert (checkup.findings[0].status, checkup.findings[0].message) == (Status.SKIPPED, NOT_THIS_MACHINE)


@pytest.mark.parametrize(
    ("verdicts", "strict", "status"),
    [
        ([ok(""), skipped("")], True, 0),
        ([warning("", "")], False, 0),
        ([warning("", "")], True, 1),
        ([warning("", ""), error("", "")], True, 2),
    ],
    ids=["healthy", "warning", "strict", "error"],
)
def test_the_exit_status_follows_the_worst_finding(facts, verdicts, strict, status):
    checkup = run_checks([check(f"a.{number}", verdict) for number, verdict in enumerate(verdicts)], facts())
    assert checkup.summary.exit_status(strict) == status


def test_what_was_skipped_is_counted_by_itself(facts):
    checkup = run_checks([check("a.a", ok("")), check("a.b", skipped("No card."))], facts())
    assert checkup.summary == Summary(ok=1, warnings=0, errors=0, skipped=1)


def test_checkups_can_be_joined(facts):
    both = joined([run_checks([check("a.a", ok(""))], facts()), run_checks([check("b.b", KeyError())], facts())])
    assert [found.id for found in both.findings] == ["a.a", "b.b"]
    assert both.summary.broken == 1


def test_of_several_verdicts_the_worst_ones_speak():
    verdict = worst([ok("A."), warning("B.", "b"), warning("C.", "b"), skipped("D.")])
    assert (verdict.status, verdict.message, verdict.remedy) == (Status.WARNING, "B. C.", "b")
