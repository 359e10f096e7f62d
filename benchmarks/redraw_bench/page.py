"""The generated table of ``docs/quality.md`` on redraws."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from redraw_bench import RESULTS, ROOT
from redraw_bench.ways import REDO
from tools.generated_part import update

PAGE = ROOT / "docs" / "quality.md"
_HEAD = (
    "| way | success | PSNR inside the region | over the redo | PSNR of all | changed outside | work | time of steps |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
)


def write_page(*, check: bool) -> int:
    """Write the table anew from the results, or only compare it; returns the exit status."""
    return update(PAGE, "redraw", part(json.loads(RESULTS.read_text(encoding="utf-8"))))


def part(report: Mapping[str, Any]) -> str:
    """The part as Markdown."""
    redo = report["ways"][REDO]
    where = f"{report['edits']} held-out edits on {report['machine']['processor']}, torch {report['versions']['torch']}"
    lines = [f"{where}; {report['at'][:10]}.\n", f"```sh\n{report['command']}\n```\n", *_HEAD]
    for name, row in report["ways"].items():
        outside = "-" if row["changed_outside"] is None else str(row["changed_outside"])
        cells = (
            name,
            f"{row['success']} of {report['edits']}",
            f"{row['inside_db']:.1f} dB",
            "-" if name == REDO else f"{row['over_redo_db']:+.2f} ± {row['over_redo_error_db']:.2f} dB",
            f"{row['whole_db']:.1f} dB",
            outside,
            f"{100 * row['gflop'] / redo['gflop']:.0f}%",
            f"{100 * row['step_ms'] / redo['step_ms']:.0f}%",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
