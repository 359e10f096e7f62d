"""The report reads well at 80 columns without colour."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from qied.doctor.catalogue import CHECKS
from qied.doctor.checkup import run_checks
from qied.doctor.report import show


@pytest.fixture
def report():
    def render(examined):
        stream = io.StringIO()
        show(
            Console(file=stream, width=80, highlight=False),
            examined.snapshot,
            run_checks(CHECKS, examined),
            examined.made_plan,
        )
        return stream.getvalue()

    return render


@pytest.fixture
def recorded(facts):
    return lambda *arguments, **fields: facts(*arguments, this_machine=False, **fields)


def test_a_good_machine_is_said_to_be_ready_in_ten_lines(recorded, report):
    lines = report(recorded()).splitlines()
    assert lines[0] == "NVIDIA GeForce RTX 4070 12.0 GiB, driver 560.35.03, torch 2.13.0+cu126"
    assert lines[-1].startswith("verdict  ready: ")
    assert any(line.startswith("plan     qwen-image-edit-2511: fp8 rowwise") for line in lines)
    assert len(lines) <= 11
    assert max(map(len, lines)) <= 80


def test_a_bad_machine_is_told_first_what_is_wrong_why_and_what_to_do(recorded, machine, report):
    text = report(recorded(machine(driver={"version": "470.82.01"}, gpu={"compute_capability": [8, 6]})))
    lines = text.splitlines()
    assert lines[2].startswith("error    driver.cuda: Driver 470.82.01 is too old")
    assert [line[:9].strip() for line in lines[3:6]] == ["", "why", "do"]
    assert "error    plan.made: none until driver.cuda is solved" in text
    assert "verdict  not ready: 2 errors" in text
    assert len(lines) <= 14


def test_what_was_skipped_is_said_not_to_have_passed(recorded, report):
    text = " ".join(report(recorded()).split())
    assert "not checked, so not passed" in text


def test_brackets_in_messages_stay(recorded, machine, report):
    text = report(recorded(machine(problems={"torch_broken": "no module named [red]x"})))
    assert "[red]x" in text
