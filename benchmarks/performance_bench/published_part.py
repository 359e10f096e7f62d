"""Peers that were not run here, with the figures that they publish and where."""

from __future__ import annotations

import tomllib

from quality_bench.tables import Table

from performance_bench import ROOT

FILE = ROOT / "benchmarks" / "published.toml"


def markdown() -> str:
    """The part of the page."""
    found = tomllib.loads(FILE.read_text(encoding="utf-8"))["figure"]
    cells = tuple((each["system"], each["card"], each["what"], each["published"], each["source"]) for each in found)
    columns = ("system", "card", "what", "published", "source")
    return Table("Published by others, not run here", columns, cells).markdown()
