"""Runs what only a card can show, and keeps the outcome with its date, card and versions: ``make test-card``.

These are the tests that are marked ``card``, and those that run on the card where there is one, else on the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "test-card.json"
OPERATIONS = ("attention", "fp8_attention", "linear", "norms", "operations", "proof")
PLACES = (
    "tests/daemon/test_cards.py",
    "tests/gpu",
    *(f"tests/engine/ops/test_{name}.py" for name in OPERATIONS),
    "tests/engine/copying",
    "tests/engine/test_device_errors.py",
    "tests/engine/text/test_streaming.py",
    "tests/engine/transformer/test_transformer.py",
    "tests/engine/vae",
    "tests/engine/selftest/test_trials.py",
)


class Outcomes:
    """Counts tests by their outcome and their file, and says why tests failed or were skipped.

    The report is in ``file`` after every test, so that a run that is cut off leaves what it saw.
    """

    def __init__(self, file: Path, facts: dict[str, Any]) -> None:
        self._file = file
        self._facts = facts
        self._started = time.monotonic()
        self.files: dict[str, Counter[str]] = {}
        self.skipped: Counter[str] = Counter()
        self.failed: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in one phase of one test."""
        if report.when != "call" and report.outcome == "passed":
            return
        file = report.nodeid.split("::")[0]
        self.files.setdefault(file, Counter())[report.outcome] += 1
        if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
            self.skipped[report.longrepr[2].removeprefix("Skipped: ")] += 1
        if report.outcome == "failed":
            self.failed[report.nodeid] = str(report.longrepr).splitlines()[-1][:300]
        self.write(complete=False)

    def write(self, *, complete: bool) -> None:
        """Write the report; ``complete`` says that every test has run."""
        total: Counter[str] = sum(self.files.values(), Counter())
        report = {
            **self._facts,
            "complete": complete,
            "seconds": round(time.monotonic() - self._started, 1),
            "total": dict(total),
            "files": {file: dict(count) for file, count in sorted(self.files.items())},
            "skipped": dict(self.skipped),
            "failed": self.failed,
        }
        self._file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """Run the tests and write the result; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULT, metavar="FILE")
    parser.add_argument("--processes", default="4", metavar="N", help="test processes that share the card")
    parser.add_argument("places", nargs="*", default=list(PLACES), help="files or folders of tests")
    chosen = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        sys.exit("torch sees no card here; make test runs everything that needs none.")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from wire_bench.machine import command, versions, without_identity

    from qied.hardware.probe import probe

    facts = {
        "schema": 1,
        "command": command(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": without_identity(probe(os.environ).to_json()),
        "versions": versions(),
    }
    outcomes = Outcomes(chosen.json.resolve(), facts)
    os.chdir(ROOT)
    options = ["-q", "-n", chosen.processes, "--dist", "load", "-p", "no:cacheprovider", "-p", "no:benchmark"]
    status = pytest.main([*options, *chosen.places], plugins=[outcomes])
    outcomes.write(complete=status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED))
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
