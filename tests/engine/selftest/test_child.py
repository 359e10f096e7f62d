"""The child reports each trial as soon as it is known."""

from __future__ import annotations

import pytest

from qied.child_process import load_by_name
from qied.engine.selftest.child import Rate, Suite, run_suite
from qied.hardware.snapshot import Trial
from qied.hardware.trial_lines import FinishedTrial, Ready, Started, parse_line

GOOD = Trial(ok=True)


def fail():
    raise RuntimeError("\n\nno kernel image\nCompile with more patience")


def report(suite, skip=()):
    lines = []
    run_suite(suite, skip, lines.append)
    return lines


def test_a_trial_is_announced_before_it_runs_and_told_after():
    lines = []

    def look():
        assert lines == [Ready(trials=("one",)), Started(name="one")]
        return GOOD

    run_suite(Suite({"one": look}), (), lines.append)
    assert lines[2:] == [FinishedTrial(name="one", trial=GOOD)]


def test_trials_that_were_run_are_left_out():
    lines = report(Suite({"one": fail, "two": lambda: Rate(5)}), skip=("one",))
    assert lines == [
        Ready(trials=("two",)),
        Started(name="two"),
        FinishedTrial(name="two", trial=GOOD, bytes_per_s=5),
    ]


def test_an_exception_is_the_answer_of_its_trial():
    lines = report(Suite({"one": fail, "two": lambda: GOOD}))
    assert lines[2].trial == Trial(ok=False, error="RuntimeError: no kernel image")
    assert lines[-1] == FinishedTrial(name="two", trial=GOOD)


def test_a_device_that_does_not_answer_after_a_failure_ends_this_process():
    lines = report(Suite({"one": fail, "two": lambda: GOOD}, usable=lambda: False))
    assert [line.name for line in lines[1:]] == ["one", "one"]


@pytest.mark.parametrize("line", [Ready(trials=("a", "b")), Started(name="a"), FinishedTrial(name="a", trial=GOOD)])
def test_lines_are_read_as_they_were_written(line):
    assert parse_line(line.model_dump_json()) == line


@pytest.mark.parametrize("text", ["", "hello", "{}", '{"kind": "finished", "name": "a"}', '{"kind": "other"}', b"\xff"])
def test_other_lines_are_none(text):
    assert parse_line(text) is None


def test_suites_are_found_by_module_and_function():
    assert "bf16" in load_by_name("qied.engine.selftest.trials:cpu")().trials
