"""Whatever a kernel does to its process, each trial has an answer and the others are run."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import psutil
import pytest

from qied.hardware.selftest_process import TimeLimits, run_trials


@pytest.fixture
def run(faulty, tmp_path):
    def run(name, limits=None):
        environ = {**faulty, "FAULT_LOG": str(tmp_path / "log")}
        return run_trials(f"fault_trials:{name}", environ, limits or TimeLimits(), lambda *news: None)

    return run


def errors(findings):
    return {name: line.trial.error for name, line in findings.results.items()}


def test_healthy_trials_answer_in_order_and_progress_is_told(faulty):
    told = []
    findings = run_trials("fault_trials:healthy", faulty, TimeLimits(), lambda *news: told.append(news))
    assert set(errors(findings).values()) == {None}
    assert findings.results["host_to_device"].bytes_per_s == 25_000_000_000
    assert told[0] == ("bf16", 0, 6)
    assert told[-1] == ("host_to_device", 5, 6)
    assert findings.lasting


def test_a_crash_fails_its_trial_alone(run):
    findings = run("crash")
    assert list(findings.results) == ["bf16", "fp8_rowwise", "fp8_tensorwise"]
    found = errors(findings)
    assert found["fp8_rowwise"].startswith("the process died with SIGABRT")
    assert found["bf16"] is found["fp8_tensorwise"] is None
    assert findings.lasting


def test_each_of_several_crashes_has_its_answer(run):
    assert all("SIGABRT" in error for error in errors(run("crash_everywhere")).values())


def test_a_kernel_that_ends_the_process_fails_with_its_status(run):
    assert errors(run("leave")) == {"bf16": "the process ended with status 7", "fp8_rowwise": None}


def test_a_hang_fails_its_trial_alone_and_another_run_may_say_more(run):
    findings = run("hang", TimeLimits(trial_s=2.0))
    assert errors(findings) == {
        "bf16": None,
        "fp8_rowwise": "no answer within 2 s",
        "fp8_tensorwise": None,
    }
    assert not findings.lasting


def test_many_hangs_end_with_the_time_for_all(run):
    findings = run("hang_in_each", TimeLimits(trial_s=60.0, all_s=4.0))
    found = errors(findings)
    assert found["bf16"].startswith("no answer within")
    assert found["fp8_rowwise"] == found["fp8_tensorwise"] == "not run: the self-test took longer than 4 s"
    assert not findings.lasting


def test_an_exception_is_told_by_its_first_line(run):
    assert errors(run("error")) == {"bf16": "ValueError: no such kernel", "fp8_rowwise": None}


def test_after_a_failure_that_spoils_the_device_a_new_process_runs_the_rest(run):
    results = run("poisoned").results
    assert results["fp8_rowwise"].trial.error == "RuntimeError: CUDA error: misaligned"
    assert results["bf16"].trial.tflops != results["fp8_tensorwise"].trial.tflops


def test_a_lack_of_memory_may_pass(run):
    findings = run("out_of_memory")
    assert "out of memory" in errors(findings)["bf16"]
    assert not findings.lasting


def test_what_libraries_print_is_no_answer(run):
    findings = run("chatter")
    assert findings.failure is None
    assert errors(findings) == {"bf16": None}


def test_wrong_and_slow_results_are_found_and_told_by_how_much(run):
    findings = run("misbehaving")
    found = errors(findings)
    assert found["fp8_rowwise"].startswith("wrong result: relative error ")
    assert found["fp8_rowwise"].endswith("against FP32, at most 0.06 is allowed")
    assert found["fp8_tensorwise"] == "the result is not finite"
    number = r"(\d[\d.e+-]*)"
    told = re.fullmatch(
        rf"slower than BF16: {number} times its time \({number} ms against {number} ms\)", found["fp8_storage"]
    )
    assert told is not None
    times, took, reference = map(float, told.groups())
    assert times == pytest.approx(took / reference, rel=0.02) and times > 1
    assert findings.results["fp8_storage"].trial.relative_error < 0.06
    assert findings.lasting


@pytest.mark.parametrize(
    ("suite", "limits", "reason"),
    [
        ("no_card", TimeLimits(), "RuntimeError: No CUDA GPUs are available"),
        ("no_such_suite", TimeLimits(), "has no attribute 'no_such_suite'"),
        ("hang_at_start", TimeLimits(start_s=1.0), "no answer within 1 s"),
        (
            "lost_card",
            TimeLimits(),
            "a new process runs no trial: the process ended with status 1: RuntimeError: No CUDA",
        ),
    ],
)
def test_where_nothing_can_start_the_reason_is_told(run, suite, limits, reason):
    findings = run(suite, limits)
    assert reason in findings.failure


def test_the_child_leaves_when_its_parent_is_killed(faulty, tmp_path):
    log = tmp_path / "log"
    code = (
        "import os; from qied.hardware.selftest_process import TimeLimits, run_trials\n"
        "run_trials('fault_trials:hang', os.environ, TimeLimits(), lambda name, *_: print(name, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], env={**faulty, "FAULT_LOG": str(log)}, stdout=subprocess.PIPE, text=True
    ) as parent:
        try:
            assert [parent.stdout.readline() for _ in range(2)] == ["bf16\n", "fp8_rowwise\n"]
            (child,) = psutil.Process(parent.pid).children()
        finally:
            parent.kill()
    _, alive = psutil.wait_procs([child], timeout=30)
    assert not alive


def test_no_child_is_left_behind(run):
    before = {child.pid for child in psutil.Process(os.getpid()).children()}
    run("hang", TimeLimits(trial_s=0.5))
    assert {child.pid for child in psutil.Process(os.getpid()).children()} == before
