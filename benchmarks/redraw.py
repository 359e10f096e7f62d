"""Measures redraws of a draft's edited region next to a whole redo, on held-out edits of the built-in model.

README.md beside this file tells the method, ``docs/quality.md`` what came out.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from quality_bench.engines import LORA_BYTES
from quality_bench.sets import single_edits
from redraw_bench import RESULTS
from redraw_bench.page import write_page
from redraw_bench.ways import REDO, Tried, names, tried
from wire_bench.machine import command, machine_facts, versions

from qied.engine.engine import Engine, EngineOptions
from qied.loras.catalogue import find_loras
from qied.planning.plan import Plan, Sessions
from qied.planning.profiles.model_profile import shipped_profiles
from qied.planning.requests.serving import Serving
from qied.resources import builtin_loras_folder, builtin_model_folder


def main() -> int:
    """Measure, or write the page's table from the results; returns the exit status."""
    arguments = _arguments()
    if arguments.page:
        return write_page(check=arguments.check)
    profile, started = shipped_profiles()["builtin"], time.monotonic()
    loras = find_loras([builtin_loras_folder()], profile.architecture)
    options = EngineOptions(dtype="fp32", loras=loras.files, lora_bytes=LORA_BYTES)
    engine = Engine.load(builtin_model_folder(), profile, options, lambda *_: None)
    plan = Plan(
        "builtin", "CPU", "cpu", "cpu", None, (), 1, 1, 1, 0, 1 << 18, 1 << 16, Sessions(1, 1), engine.execution, (),
    )  # fmt: skip
    serving = Serving(profile, (plan,), loras.facts)
    # An edit that changes nothing has no region.
    sessions = [each for each in single_edits(arguments.limit) if each.edits[0].source != each.edits[0].target]
    found: dict[str, list[Tried]] = {name: [] for name in names()}
    for number, session in enumerate(sessions, 1):
        with torch.inference_mode():
            results = tried(engine, serving, session.edits[0], session.seed)
        engine.forget("bench")
        for name, result in results.items():
            found[name].append(result)
        print(f"{number} of {len(sessions)}", {name: round(each.inside_db, 1) for name, each in results.items()})
        if arguments.json is not None:
            report = _report(found, time.monotonic() - started)
            arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure redraws of drafts by the built-in model.")
    parser.add_argument("--limit", type=int, default=24, metavar="N", help="N edits of the set, evenly over the tasks")
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"write all figures there, such as {RESULTS.name}")
    parser.add_argument("--page", action="store_true", help="measure nothing: write the table of docs/quality.md")
    parser.add_argument("--check", action="store_true", help="with --page: only compare")
    return parser.parse_args()


def _report(found: dict[str, list[Tried]], seconds: float) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command(),
        "versions": versions(),
        "machine": machine_facts(Path(__file__).parent),
        "seconds": round(seconds, 1),
        "edits": len(next(iter(found.values()))),
        "ways": {name: _figures(tries, found[REDO]) for name, tries in found.items() if tries},
    }


def _figures(tries: list[Tried], redone: list[Tried]) -> dict[str, Any]:
    gains = [each.inside_db - redo.inside_db for each, redo in zip(tries, redone, strict=True)]
    error = stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
    outside = [each.changed_outside for each in tries if each.changed_outside is not None]
    return {
        "success": sum(each.success for each in tries),
        "inside_db": round(sum(each.inside_db for each in tries) / len(tries), 2),
        "over_redo_db": round(mean(gains), 2),
        "over_redo_error_db": round(error, 2),
        "whole_db": round(sum(each.whole_db for each in tries) / len(tries), 2),
        "gflop": round(sum(each.gflop for each in tries) / len(tries), 2),
        "step_ms": round(sum(each.step_ms for each in tries) / len(tries), 1),
        "changed_outside": sum(outside) if outside else None,
        "each": [vars(each) for each in tries],
    }


if __name__ == "__main__":
    raise SystemExit(main())
