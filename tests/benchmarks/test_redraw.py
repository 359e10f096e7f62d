"""The redraw benchmark's table is that of its results."""

from __future__ import annotations

import json

from redraw_bench import RESULTS
from redraw_bench.page import PAGE, part
from redraw_bench.ways import DRAFT, REDO, names


def test_the_page_has_the_results() -> None:
    report = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert part(report) in PAGE.read_text(encoding="utf-8")
    assert tuple(report["ways"]) == names()
    rows = report["ways"]
    assert all(len(row["each"]) == report["edits"] for row in rows.values())
    assert {row["changed_outside"] for name, row in rows.items() if name.startswith("redraw")} == {0}
    assert rows[DRAFT]["gflop"] < rows["redraw 0.5"]["gflop"] < rows[REDO]["gflop"]
