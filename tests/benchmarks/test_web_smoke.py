"""The benchmark of the web gateway runs, and its report has what readers use; no figure is judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("web")
    program = [sys.executable, str(_ROOT / "benchmarks" / "web.py"), "--quick"]
    done = subprocess.run(
        [*program, "--json", str(folder / "report.json"), "--state", str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "the web gateway" in done.stderr
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def test_pages_hear_what_the_python_client_hears(report):
    pages = report["pages"]
    (only_round,) = pages["rounds"]
    assert only_round["events"] > 0 and only_round["event_ms"]["count"] > only_round["events"]
    assert only_round["statuses"] > 0 and only_round["completed"] >= pages["streams"]
    assert only_round["partial_pictures"] > 0 and only_round["health_ms"]["count"] > 0
    assert pages["rss_peak_bytes"] >= pages["rss_open_bytes"] > 10_000_000


def test_small_requests_are_measured_beside_an_upload(report):
    upload = report["upload"]
    assert upload["bytes"] == 4 << 20 and upload["seconds"]["median"] > 0
    assert upload["rounds"][0]["health_ms"]["count"] > 0


def test_an_edit_is_measured_beside_the_python_client(report):
    edit = report["edit"]
    assert edit["kept_ms"]["median"] > 0 and edit["client_ms"]["median"] > 0 and edit["new_ms"]["median"] > 0
    assert edit["ratio"]["median"] > 0


def test_every_bar_says_whether_it_is_met(report):
    assert [bar["unit"] for bar in report["bars"]] == ["ms", "ms", "MB", "ms", "ms", "ms"]
    assert all(isinstance(bar["met"], bool) for bar in report["bars"])
