"""The generated parts of ``docs/quality.md``: what was measured, on which machine, by which command.

On a CPU all rows over the whole set take hours, so there are several measurements: the rows of the bars over the whole
set, all rows over a part of it, and the text encoder in 8 bits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from quality_bench import ROOT
from quality_bench.plot import plot
from quality_bench.tables import tables
from tools.generated_part import update

PAGE = ROOT / "docs" / "quality.md"
RESULTS = ROOT / "benchmarks" / "results" / "quality.json"
"""All rows."""
MAIN_RESULTS = ROOT / "benchmarks" / "results" / "quality-main.json"
"""The rows of the bars, over the whole set."""
TEXT_RESULTS = ROOT / "benchmarks" / "results" / "quality-text.json"
"""The text encoder's layers in 8 bits, over a part of the set."""
PLOT = ROOT / "docs" / "pictures" / "quality-plot.png"
MAIN_PLOT = ROOT / "docs" / "pictures" / "quality-main-plot.png"
SHEET = ROOT / "docs" / "pictures" / "quality-sheet.png"
_PACKAGES = ("torch", "diffusers", "qied")


def write_page(*, check: bool) -> int:
    """Write the page's parts and the plots anew from the results, or only compare the page; returns the exit status."""
    files = (RESULTS, MAIN_RESULTS, TEXT_RESULTS)
    report, main, text = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    if not check:
        for each, file in ((report, PLOT), (main, MAIN_PLOT)):
            plot(each).save(file, optimize=True)
    return max(
        update(PAGE, "quality main", main_part(main)),
        update(PAGE, "quality", part(report)),
        update(PAGE, "quality text", text_part(text)),
    )


def main_part(report: Mapping[str, Any]) -> str:
    """The part on the whole set as Markdown."""
    picture = f"![success and PSNR of each configuration](pictures/{MAIN_PLOT.name})\n"
    return "\n".join([*_said(report), picture, *(table.markdown() for table in tables(report))])


def text_part(report: Mapping[str, Any]) -> str:
    """The part on the text encoder in 8 bits as Markdown; what is judged of whole sets is not judged here."""
    left_out = ("Bars", "By task, language and phrasing", "Style LoRA")
    return "\n".join([*_said(report), *(each.markdown() for each in tables(report) if each.title not in left_out)])


def part(report: Mapping[str, Any]) -> str:
    """The part on all rows as Markdown."""
    pictures = [
        f"![success and PSNR of each configuration, and five turns](pictures/{PLOT.name})\n",
        f"![edits: source, output, truth, difference](pictures/{SHEET.name})\n",
    ]
    return "\n".join([*_said(report), pictures[0], *(table.markdown() for table in tables(report)), pictures[1]])


def _said(report: Mapping[str, Any]) -> list[str]:
    return [f"{_where(report)}\n", f"```sh\n{report['command']}\n```\n", *(f"{note}\n" for note in report["notes"])]


def _where(report: Mapping[str, Any]) -> str:
    driver = report["machine"]["driver"]
    versions = [f"{name} {report['versions'][name]}" for name in _PACKAGES]
    facts = [f"driver {driver['version']}", *versions] if driver else versions
    edits = f"{report['edits']} held-out edits" + ("" if report["limit"] is None else ", a part of the set,")
    when = f"{report['at'][:10]}, {report['seconds'] / 60:.0f} minutes"
    return f"{edits} on {report['device']}; {', '.join(facts)}; {when}. Guidance {report['recommended_cfg']:g}."
