"""Records the plan of every golden snapshot anew and prints them as a table to review: python tools/golden_plans.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from qied.hardware.snapshot import read_snapshot
from qied.planning.choosing.planner import PlanRequest, plan
from qied.planning.plan import Plan, Refusal
from qied.planning.profiles.hardware_profile import shipped_hardware_profiles
from qied.planning.profiles.model_profile import shipped_profiles

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "planning" / "golden"
MODEL = "qwen-image-edit-2511"


def main() -> None:
    """Record all plans; the difference in version control is what is to be reviewed."""
    request = PlanRequest(shipped_profiles()[MODEL], shipped_hardware_profiles())
    table = Table("snapshot", "precision", "budget", "peak", "blocks", "text", "cap", "sessions", "tiles", "host GB")
    for file in sorted((GOLDEN / "snapshots").glob("*.json")):
        outcome = plan(read_snapshot(file.read_bytes(), file.name), request)
        document = json.dumps(outcome.to_json(), indent=2)
        (GOLDEN / "plans" / file.name).write_text(document + "\n", encoding="utf-8")
        table.add_row(file.stem, *_row(outcome))
    Console(file=sys.stdout, width=150).print(table)


def _row(outcome: Plan | Refusal) -> tuple[str, ...]:
    if isinstance(outcome, Refusal):
        return (f"refused: {outcome.code}", *[""] * 8)
    run = outcome.execution
    return (
        f"{outcome.precision} {outcome.scaling or ''}",
        f"{outcome.budget_bytes / 1e9:.1f}",
        f"{outcome.predicted_peak_bytes / 1e9:.1f}",
        f"{run.resident_blocks}/{run.total_blocks}",
        run.text_encoder,
        f"{outcome.max_pixels / 2**20:.2f}",
        f"{outcome.sessions.at_max_pixels}/{outcome.sessions.limit}",
        f"{run.encode_tile_px}/{run.decode_tile_px}",
        f"{outcome.host_bytes / 1e9:.1f}",
    )


if __name__ == "__main__":
    main()
