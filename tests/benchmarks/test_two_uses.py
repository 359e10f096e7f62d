"""The benchmark of two uses runs, and its report has what readers use; no figure is judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def test_previews_are_measured_alone_and_next_to_a_batch(tmp_path):
    program = [sys.executable, str(_ROOT / "benchmarks" / "two_uses.py"), "--quick", "--parts", "batch"]
    done = subprocess.run(
        [*program, "--json", str(tmp_path / "report.json"), "--state", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((tmp_path / "report.json").read_text())
    (only_round,) = report["batch"]["rounds"]
    assert only_round["alone_ms"]["p95"] >= only_round["alone_ms"]["p50"] > 0
    assert only_round["beside_ms"]["p50"] > 0 and only_round["ratio_p95"] > 0
    assert isinstance(report["bars"][0]["met"], bool)
