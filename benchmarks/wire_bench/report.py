"""The figures against their bars, as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from wire_bench.edits import STAGES
from wire_bench.plan import MB
from wire_bench.spread import Figure


@dataclass(frozen=True)
class Bar:
    """One figure and what it has to be: at most ``bar``, or at least that where ``more_is_better``."""

    name: str
    unit: str
    figure: Figure
    bar: float
    more_is_better: bool = False

    @property
    def met(self) -> bool:
        """Whether the median of the rounds meets the bar."""
        return self.figure.median >= self.bar if self.more_is_better else self.figure.median < self.bar

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return {**asdict(self), "met": self.met}


def bars(report: dict[str, Any]) -> list[Bar]:
    """The bars of the parts that ran."""
    found: list[Bar] = []
    if load := report.get("load"):
        loaded = load["loaded"]
        memory = Figure.of([row["front_rss_peak_bytes"] / MB for row in loaded["rounds"]])
        found += [
            Bar("heartbeat p99 under load", "ms", Figure(**loaded["heartbeat_p99_ms"]), 10),
            Bar("SUBMIT to ACCEPTED p50 under load", "ms", Figure(**loaded["submit_p50_ms"]), 5),
            Bar("the front's memory under load, peak", "MB", memory, 200),
        ]
    if upload := report.get("upload"):
        found += [
            Bar("upload, PUT to STORED", "MB/s", Figure(**upload["mb_s"]), 150, True),
            Bar("upload, with the client's hash", "MB/s", Figure(**upload["with_hash_mb_s"]), 150, True),
        ]
    if edit := report.get("edit"):
        found += [
            Bar("daemon over engine, previews", "ms", Figure(**edit["previews"]["overhead_ms"]), 10),
            Bar("daemon over engine, no previews", "ms", Figure(**edit["no_previews"]["overhead_ms"]), 10),
        ]
    return found


def show(report: dict[str, Any], console: Console) -> None:
    """Print the bars, and the parts of an edit's overhead."""
    table = Table("figure", "median of rounds (lowest to highest)", "bar", "", title="qied on the wire")
    for bar in bars(report):
        sign = "≥" if bar.more_is_better else "<"
        met = "[green]met[/]" if bar.met else "[red]missed[/]"
        table.add_row(bar.name, f"{bar.figure} {bar.unit}", f"{sign} {bar.bar:g} {bar.unit}", met)
    console.print(table)
    if edit := report.get("edit"):
        _show_stages(edit, console)
    busy = max((row["other_cores"] for row in _rounds(report)), default=0.0)
    console.print(f"Other programs kept up to {busy:g} of {report['machine']['cores']} cores busy during a round.")


def _show_stages(edit: dict[str, Any], console: Console) -> None:
    table = Table("stage of an edit", "previews, ms", "none, ms", title="where the overhead goes")
    for name in STAGES:
        table.add_row(name, *(f"{edit[kind]['stages_ms'][name]:.2f}" for kind in ("previews", "no_previews")))
    for name in ("daemon_ms", "engine_ms", "bare_ms"):
        table.add_row(f"[dim]{name}[/]", *(str(Figure(**edit[kind][name])) for kind in ("previews", "no_previews")))
    console.print(table)


def _rounds(report: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for kind in ("quiet", "loaded"):
        found += report.get("load", {}).get(kind, {}).get("rounds", [])
    found += report.get("upload", {}).get("rounds", [])
    for kind in ("previews", "no_previews"):
        found += report.get("edit", {}).get(kind, {}).get("rounds", [])
    return found
