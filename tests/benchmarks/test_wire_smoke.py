"""The wire benchmark runs, and its report has the fields that its readers use; no figure is judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).resolve().parents[2]


def _run(folder: Path, *parts: str) -> dict[str, Any]:
    program = [sys.executable, str(_ROOT / "benchmarks" / "wire.py"), "--quick", "--parts", *parts]
    done = subprocess.run(
        [*program, "--json", str(folder / "report.json"), "--state", str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "qied on the wire" in done.stderr
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return _run(tmp_path_factory.mktemp("wire"), "load", "upload")


@pytest.fixture(scope="module")
def edit_report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return _run(tmp_path_factory.mktemp("edit"), "edit")


def test_the_report_says_what_was_run_and_where(report):
    assert (report["schema"], report["benchmark"], report["quick"]) == (1, "wire", True)
    assert "wire.py --quick" in report["command"]
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["disk_write_and_sync_mb_s"] > 0
    assert {"python", "qied", "pyzmq", "libzmq", "torch"} <= report["versions"].keys()


def test_clients_are_measured_without_and_with_uploads_beside_them(report):
    for kind in ("quiet", "loaded"):
        measured = report["load"][kind]
        (only_round,) = measured["rounds"]
        assert only_round["heartbeat_ms"]["count"] > 0
        assert only_round["submit_ms"]["count"] > 0
        assert measured["heartbeat_p99_ms"]["median"] >= measured["heartbeat_p50_ms"]["median"] > 0
        assert measured["front_rss_peak_bytes"] > 1_000_000
    assert report["load"]["quiet"]["rounds"][0]["uploaded_mb_s"] == 0
    assert report["load"]["loaded"]["rounds"][0]["uploaded_mb_s"] > 0


def test_an_upload_is_measured_with_the_clients_hash_and_without(report):
    upload = report["upload"]
    assert upload["mb_s"]["median"] > upload["with_hash_mb_s"]["median"] > 0


def test_an_edit_is_measured_beside_the_bare_engine_and_in_parts(edit_report):
    for kind in ("previews", "no_previews"):
        edit = edit_report["edit"][kind]
        assert edit["daemon_ms"]["median"] > edit["engine_ms"]["median"] > 0
        assert edit["bare_ms"]["median"] > 0
        assert {"quote", "put", "submit", "begin", "reports", "encode", "deliver", "fetch"} <= edit["stages_ms"].keys()


def test_the_daemon_and_the_bare_engine_make_the_same_pixels(edit_report):
    assert edit_report["edit"]["previews"]["same_pixels"]
    assert edit_report["edit"]["no_previews"]["same_pixels"]


def test_every_bar_says_whether_it_is_met(report, edit_report):
    bars = [*report["bars"], *edit_report["bars"]]
    assert len(bars) == 7
    assert all(isinstance(bar["met"], bool) and bar["unit"] for bar in bars)
