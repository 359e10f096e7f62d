"""The results of the programs that the page is made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from part_runs.bar import said
from quality_bench.tables import Table

from performance_bench import ROOT

RESULTS = ROOT / "benchmarks" / "results"
NOT_MEASURED = "Not measured yet."
_PACKAGES = ("torch", "diffusers", "qied")


@dataclass(frozen=True)
class Results:
    """One program's report, or nothing where it has not run."""

    program: str
    content: Mapping[str, Any]

    @property
    def parts(self) -> Mapping[str, Any]:
        """The parts by name."""
        found: Mapping[str, Any] = self.content.get("parts", {})
        return found

    def figures(self, part: str) -> Mapping[str, Any]:
        """The figures of a part; nothing where it has not run."""
        found: Mapping[str, Any] = self.parts.get(part, {}).get("figures", {})
        return found

    def where(self, *names: str) -> list[str]:
        """On which machine, with what and when these parts were measured, as a paragraph and as commands."""
        parts = [self.parts[name] for name in names if name in self.parts]
        if not parts:
            return [f"{NOT_MEASURED}\n"]
        places = list(dict.fromkeys(self._place(part) for part in parts))
        commands = list(dict.fromkeys(part["command"] for part in parts))
        return ["; ".join(places) + ".\n", "```sh\n" + "\n".join(commands) + "\n```\n"]

    def elsewhere(self, part: str, main: str) -> str:
        """The name of a part's device, where it is not that of the part ``main``; empty otherwise."""
        devices = [self.parts.get(name, {}).get("device") for name in (part, main)]
        return "" if devices[0] == devices[1] or devices[1] is None else f" ({devices[0]})"

    def bars(self) -> Table:
        """The bars, those that were not measured included."""
        cells = tuple(_bar(bar) for bar in self.content.get("bars", ()))
        return Table("Bars", ("bar", "measured", "to reach", "met"), cells)

    def _place(self, part: Mapping[str, Any]) -> str:
        machine = self.content["machines"].get(part["device"], {})
        driver = machine.get("driver") or {}
        facts = [part["device"], *([f"driver {driver['version']}"] if driver.get("version") else [])]
        versions = (f"{name} {part['versions'][name]}" for name in _PACKAGES)
        return ", ".join([*facts, *versions, part["at"][:10]])


def results(program: str, folder: Path | None = None) -> Results:
    """Read a program's results; a quick run's figures mean nothing and are refused with SystemExit."""
    file = (folder or RESULTS) / f"{program}.json"
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if content.get("quick"):
        raise SystemExit(f"{file} is of a quick run.")
    return Results(program, content)


def _bar(bar: Mapping[str, Any]) -> tuple[str, ...]:
    words = "at most" if bar["at_most"] else "at least"
    met = {None: "-", True: "yes", False: "no"}[bar["met"]]
    limit = said(bar["limit"], bar["unit"])
    return bar["name"], said(bar["value"], bar["unit"]), limit if bar["unit"] == "yes" else f"{words} {limit}", met
