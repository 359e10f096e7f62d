"""Measures the memory model on a card: predicted against measured peak of whole edits, full size, random weights.

README.md beside this file tells the method. The factors that come out are in ``qied/planning/layout/calibration.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

# Before torch: as a worker of the daemon starts.
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import torch
from memory_bench.cases import CASES, GGUF_SETUPS, SETUPS, Setup
from memory_bench.full_size import sources
from memory_bench.gguf_file import random_gguf
from memory_bench.measure import Card, build, clear, measure
from part_runs.card import card_used
from rich.console import Console
from rich.table import Table
from wire_bench.machine import command, versions, without_identity

from qied.checkpoints.file_bytes import stored_block_bytes
from qied.engine.weights.sources import FileSource
from qied.hardware.probe import probe
from qied.hardware.selftest import measured
from qied.hardware.snapshot import Snapshot
from qied.planning.choosing.planner import PlanRequest, plan
from qied.planning.plan import Plan, Refusal
from qied.planning.profiles.hardware_profile import shipped_hardware_profiles
from qied.planning.profiles.model_profile import shipped_profiles
from tools.own_memory import forget_peak, resident

MODEL = shipped_profiles()["qwen-image-edit-2511"]
GB = 1e9


def main() -> None:
    """Build each plan, run its edits, show a table, write JSON."""
    arguments = _arguments()
    # With what a self-test shows, as `qied serve` plans: so with attention in FP8 where it is proven.
    snapshot = measured(probe(os.environ))
    before = card_used()
    weights, text_encoder = sources(torch.device("cuda"))
    card = Card(before, card_used, text_encoder.kept_bytes)
    known = GGUF_SETUPS if arguments.gguf is not None else SETUPS
    setups = [setup for setup in known if arguments.only is None or arguments.only in str(setup)]
    rows: list[dict[str, Any]] = []
    report: dict[str, Any] = {
        "schema": 1,
        "benchmark": "memory",
        "command": command(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": without_identity(snapshot.to_json()),
        "versions": versions(),
        "cases": rows,
    }
    for setup in setups:
        started = time.monotonic()
        file = _gguf_file(arguments.gguf, setup.gguf) if setup.gguf else None
        made = _planned(snapshot, setup, file)
        if isinstance(made, Refusal):
            print(f"{setup}: refused: {made.message}", file=sys.stderr)
            continue
        own = weights if file is None else replace(weights, transformer=FileSource("transformer", [file]))
        own_card = card if file is None else replace(card, files=(file,))
        forget_peak()
        engine = build(made, MODEL, own)
        loading = {"predicted": made.host_bytes, "measured": resident("VmHWM") - text_encoder.kept_bytes()}
        built = time.monotonic() - started
        for case in CASES:
            if case.width * case.height <= made.max_pixels:
                found = measure(engine, made, MODEL, case, own_card)
                rows.append({"setup": str(setup), "plan": _in_short(made), "loading_host": loading, **found})
        del engine
        clear()
        print(f"{setup}: built in {built:.0f} s, {time.monotonic() - started:.0f} s in all", file=sys.stderr)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    _show(rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the memory model.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--gguf", type=Path, metavar="FOLDER", help="plan for a GGUF file, written there (12 GB)")
    parser.add_argument("--only", metavar="TEXT", help="setups with this in their name, such as 'fp8' or '12 GB'")
    return parser.parse_args()


def _gguf_file(folder: Path, kind: str) -> Path:
    file = folder / f"random-{kind}.gguf"
    return file if file.exists() else random_gguf(file, kind)


def _planned(snapshot: Snapshot, setup: Setup, file: Path | None) -> Plan | Refusal:
    wishes = setup.wishes()
    stored = stored_block_bytes([file], MODEL.architecture) if file is not None else 0
    if setup.host_bytes:
        free = min(setup.host_bytes * 9 // 10, snapshot.host.memory_available_bytes or setup.host_bytes)
        host = snapshot.host.model_copy(
            update={"memory_total_bytes": setup.host_bytes, "memory_available_bytes": free, "memory_limit_bytes": None}
        )
        snapshot = snapshot.model_copy(update={"host": host})
    made = plan(snapshot, PlanRequest(MODEL, shipped_hardware_profiles(), wishes, stored_block=stored))
    if isinstance(made, Refusal):
        return made
    # This process sees the first card of the snapshot as its first.
    return replace(made, execution=replace(made.execution, device_index=0))


def _in_short(made: Plan) -> dict[str, Any]:
    run = made.execution
    return {
        "budget_bytes": made.budget_bytes,
        "max_pixels": made.max_pixels,
        "resident": run.resident_blocks,
        "stored_block_bytes": run.stored_block_bytes,
        "text_encoder": run.text_encoder,
        "encode_tile_px": run.encode_tile_px,
        "decode_tile_px": run.decode_tile_px,
        "allocator_bytes": run.allocator_bytes,
        "attention": list(run.attention),
    }


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table("plan", "resident", "tiles", "edit", "predicted", "measured", "over", "host", "of")
    for row in rows:
        tiles = f"{row['plan']['encode_tile_px']}/{row['plan']['decode_tile_px']}"
        sizes = (f"{row['predicted_bytes'] / GB:.2f}", f"{row['measured_bytes'] / GB:.2f}")
        most = max(row["host"]["measured"], row["loading_host"]["measured"])
        host = (f"{most / GB:.2f}", f"{row['host']['predicted'] / GB:.2f}")
        shown = (row["setup"], str(row["plan"]["resident"]), tiles, row["case"], *sizes, f"{row['over']:+.1%}", *host)
        table.add_row(*shown)
    Console(width=120).print(table)
    if rows:
        overs = [row["over"] for row in rows]
        print(f"{len(rows)} edits, predicted over measured from {min(overs):+.1%} to {max(overs):+.1%}")


if __name__ == "__main__":
    main()
