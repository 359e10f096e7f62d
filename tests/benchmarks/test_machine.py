"""What a report tells of the machine, and what it keeps to itself."""

from __future__ import annotations

import json
import sys

from wire_bench.machine import command, without_identity


def test_a_report_tells_no_card_from_another_and_nothing_of_its_other_users():
    gpu = {"name": "NVIDIA H200", "uuid": "GPU-5eada0bc", "processes": [{"pid": 7, "name": "python3"}]}
    facts = without_identity(json.dumps({"schema": 1, "gpus": [gpu]}))
    assert facts == {"schema": 1, "gpus": [{"name": "NVIDIA H200", "uuid": None, "processes": []}]}


def test_the_command_holds_no_path_from_the_root(monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["benchmarks/quality.py", "--limit", "4", "--json", "/somewhere/else/figures.json"]
    )
    assert command() == "python benchmarks/quality.py --limit 4 --json figures.json"
