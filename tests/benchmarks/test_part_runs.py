"""Parts run in processes of their own, and what they measured is kept whatever happens next."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from part_runs.bar import Bar, figure, ratio
from part_runs.part import Part, Recorder
from part_runs.report import Report
from part_runs.runner import run_parts

_PARTS = """
import os, threading

def good(setting, record):
    record.put("sizes", "512/512", value={"ms": 1.5})
    record.put("sizes", "512/512", value={"launches": setting["launches"]})

def bad(setting, record):
    record.put("before", value=1)
    raise ValueError("no kernel image")

def leaving(setting, record):
    raise SystemExit("The daemon did not start.")

def killed(setting, record):
    record.put("before", value=2)
    os.kill(os.getpid(), 9)

def endless(setting, record):
    record.put("before", value=3)
    threading.Event().wait()

def caches(setting, record):
    record.put("folder", value=os.environ["TRITON_CACHE_DIR"])
"""


def no_bars(parts: Any) -> list[dict[str, Any]]:
    return [{"parts": sorted(parts)}]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "some_parts.py").write_text(_PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run_some(*names: str, seconds: float = 60, fresh: bool = False) -> dict[str, Any]:
        report = Report("some", True, tmp_path / "deep" / "some.json", no_bars)
        parts = [Part(name, name, f"some_parts:{name}", fresh) for name in names]
        run_parts(parts, {"launches": 7}, report, "CPU", seconds)
        content: dict[str, Any] = json.loads((tmp_path / "deep" / "some.json").read_text())
        return content

    return run_some


def test_a_part_that_fails_keeps_what_it_measured_and_the_next_one_runs(run):
    parts = run("bad", "killed", "leaving", "good")["parts"]
    assert (parts["bad"]["figures"], parts["bad"]["error"]) == ({"before": 1}, "ValueError: no kernel image")
    assert (parts["killed"]["figures"], parts["killed"]["error"]) == (
        {"before": 2},
        "The process ended early, with status -9.",
    )
    assert parts["leaving"]["error"] == "SystemExit: The daemon did not start."
    assert parts["good"]["figures"] == {"sizes": {"512/512": {"ms": 1.5, "launches": 7}}}
    assert parts["good"]["error"] is None and parts["good"]["device"] == "CPU"


def test_a_later_run_adds_its_parts_and_replaces_the_same_ones(run):
    run("bad", "good")
    again = run("bad")
    assert again["parts"]["good"]["error"] is None
    assert again["bars"] == [{"parts": ["bad", "good"]}]


def test_when_the_time_is_up_the_running_part_is_stopped_and_no_other_one_begins(run):
    run("good")
    started = time.monotonic()
    parts = run("endless", "good", "bad", seconds=3)["parts"]
    assert time.monotonic() - started < 15
    assert (parts["endless"]["figures"], parts["endless"]["error"]) == ({"before": 3}, "There was no time left.")
    assert parts["good"]["error"] is None and "bad" not in parts


def test_a_part_can_ask_for_empty_caches_of_compiled_kernels(run):
    folder = run("caches", fresh=True)["parts"]["caches"]["figures"]["folder"]
    assert "qied-compiled-" in folder and not Path(folder).exists()


def test_a_file_of_another_benchmark_is_started_anew(tmp_path: Path):
    file = tmp_path / "r.json"
    Report("other", True, file, no_bars).begin("part", "CPU")
    assert Report("other", True, file, no_bars).parts.keys() == {"part"}
    assert Report("other", False, file, no_bars).parts == {}
    assert Report("some", True, file, no_bars).parts == {}


def test_a_figure_that_fails_is_recorded_as_an_error_and_the_others_are_measured():
    found: dict[tuple[str, ...], Any] = {}
    record = Recorder(lambda path, value: found.update({path: value}))
    assert record.attempt("a", measure=lambda: 1 / 0) is False
    assert record.attempt("b", "c", measure=lambda: 2) is True
    assert found == {("a",): {"error": "ZeroDivisionError: division by zero"}, ("b", "c"): 2}


class TestBar:
    bar = Bar(
        "twice as fast", 2.0, "x", ("slow", "fast"), lambda parts: ratio(parts["slow"]["ms"], parts["fast"]["ms"])
    )

    def judged(self, slow: str = "H100", **more: Any) -> dict[str, Any]:
        return self.bar.judged(
            {
                "slow": {"device": slow, "figures": {"ms": 10.0}},
                "fast": {"device": "H100", "figures": {"ms": 4.0}, **more},
            }
        )

    def test_it_is_met_at_its_limit_and_above(self):
        assert (self.judged()["value"], self.judged()["met"]) == (2.5, True)
        assert self.judged(figures={"ms": 5.0})["met"] is True
        assert self.judged(figures={"ms": 5.1})["met"] is False

    def test_figures_of_different_devices_are_not_compared(self):
        assert (self.judged(slow="H200")["value"], self.judged(slow="H200")["met"]) == (None, None)

    def test_a_part_that_is_missing_leaves_it_open(self):
        assert self.bar.judged({})["met"] is None

    def test_one_that_went_wrong_is_no_figure(self):
        assert figure({"a": {"b": {"error": "x"}}}, "a", "b") is None
        assert figure({"a": {"b": [1, 2]}}, "a", "b", 1) == 2
        assert figure({"a": 1}, "a", "b") is None
