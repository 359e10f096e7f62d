"""The report of ``make test-card`` holds what was seen, also where the run is cut off."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = """
import os, pytest

def test_right(): pass

@pytest.mark.skip(reason="needs two cards")
def test_skipped(): pass

def test_wrong(): assert 1 == 2

def test_last():
    if os.environ.get("CUT"): os._exit(9)
"""
RUN = """
import sys, pytest
from pathlib import Path
from tools.test_card import Outcomes
outcomes = Outcomes(Path(sys.argv[1]), {"schema": 1})
pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", "/dev/null", sys.argv[2]], plugins=[outcomes])
outcomes.write(complete=True)
"""


def report(tmp_path: Path, **environ: str) -> dict[str, object]:
    (tmp_path / "test_some.py").write_text(TESTS)
    command = [sys.executable, "-c", RUN, str(tmp_path / "report.json"), str(tmp_path / "test_some.py")]
    subprocess.run(command, cwd=ROOT, env={"PATH": "", **environ}, capture_output=True, check=False)
    found: dict[str, object] = json.loads((tmp_path / "report.json").read_text())
    return found


def test_each_outcome_is_counted_with_its_reason(tmp_path: Path) -> None:
    found = report(tmp_path)
    assert found["total"] == {"passed": 2, "skipped": 1, "failed": 1}
    assert found["skipped"] == {"needs two cards": 1}
    assert [name.split("::")[1] for name in found["failed"]] == ["test_wrong"]
    assert found["complete"] is True


def test_a_run_that_is_cut_off_leaves_what_it_saw(tmp_path: Path) -> None:
    found = report(tmp_path, CUT="1")
    assert found["total"] == {"passed": 1, "skipped": 1, "failed": 1}
    assert found["complete"] is False
