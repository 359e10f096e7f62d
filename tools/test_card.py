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
ENGINE = ("copy_ring", "faults", "host_memory", "layer_streaming", "selftest_trials", "staging", "transformer", "vae")
PLACES = (
    "tests/gpu",
    "tests/daemon/test_cards.py",
    "tests/engine/ops",
    *(f"tests/engine/test_{name}.py" for name in ENGINE),
)


class Outcomes:
    """Counts tests by their outcome and their file, and keeps why tests failed or were skipped."""

    def __init__(self) -> None:
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

    outcomes, started = Outcomes(), time.monotonic()
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    os.chdir(ROOT)
    status = pytest.main(
        ["-q", "-n", chosen.processes, "--dist", "loadfile", "-p", "no:cacheprovider", *chosen.places],
        plugins=[outcomes],
    )
    total: Counter[str] = sum(outcomes.files.values(), Counter())
    report: dict[str, Any] = {
        "schema": 1,
        "command": command(),
        "at": at,
        "seconds": round(time.monotonic() - started, 1),
        "machine": without_identity(probe(os.environ).to_json()),
        "versions": versions(),
        "total": dict(total),
        "files": {file: dict(count) for file, count in sorted(outcomes.files.items())},
        "skipped": dict(outcomes.skipped),
        "failed": outcomes.failed,
    }
    chosen.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
