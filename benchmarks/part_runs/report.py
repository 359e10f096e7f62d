"""The file of results: parts are added to what is there, so that a benchmark can be run in several sittings."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from wire_bench.machine import command, versions, without_identity

from qied.hardware.probe import probe

Bars = Callable[[Mapping[str, Any]], list[dict[str, Any]]]
"""Judges the parts of a report."""


class Report:
    """A benchmark's results, kept in ``file`` (None: nowhere) after every figure.

    Each part says by itself when, by which command and on which device it was measured. A file of another benchmark, or
    of a quick run where this is a full one, is started anew.
    """

    def __init__(self, benchmark: str, quick: bool, file: Path | None, bars: Bars) -> None:
        self._file = file
        self._bars = bars
        self.content: dict[str, Any] = {
            "schema": 1,
            "benchmark": benchmark,
            "quick": quick,
            "machines": {},
            "parts": {},
        }
        if file is not None and file.exists():
            old = json.loads(file.read_text(encoding="utf-8"))
            if all(old.get(key) == self.content[key] for key in ("schema", "benchmark", "quick")):
                self.content = old
        self.content["bars"] = bars(self.parts)

    @property
    def parts(self) -> dict[str, Any]:
        """The parts by name, each with its figures."""
        parts: dict[str, Any] = self.content["parts"]
        return parts

    def add_machine(self, device: str, machine: dict[str, Any]) -> None:
        """Say what the machine with this device is."""
        self.content["machines"][device] = machine

    def add(self, file: Path) -> None:
        """Take the parts of another run's file, in place of those of the same name; raises ValueError."""
        other = json.loads(file.read_text(encoding="utf-8"))
        if any(other.get(key) != self.content[key] for key in ("schema", "benchmark", "quick")):
            raise ValueError(f"{file} is no full run of {self.content['benchmark']}.")
        self.content["machines"].update(other["machines"])
        self.parts.update(other["parts"])
        self.write()

    def begin(self, part: str, device: str) -> None:
        """Start a part anew."""
        self.parts[part] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "command": command(),
            "device": device,
            "versions": versions(),
            "seconds": None,
            "error": None,
            "figures": {},
        }
        self.write()

    def put(self, part: str, path: tuple[str, ...], value: Any) -> None:
        """Add a figure under its path in a part; mappings are merged into what is there."""
        place = self.parts[part]["figures"]
        for name in path[:-1]:
            place = place.setdefault(name, {})
        there = place.get(path[-1])
        place[path[-1]] = {**there, **value} if isinstance(there, dict) and isinstance(value, dict) else value
        self.write()

    def end(self, part: str, seconds: float, error: str | None) -> None:
        """Say how a part ended."""
        self.parts[part].update(seconds=round(seconds, 1), error=error)
        self.write()

    def write(self) -> None:
        """Judge the bars, and bring the file up to date; it is whole at every moment."""
        self.content["bars"] = self._bars(self.parts)
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        beside = self._file.with_name(self._file.name + ".new")
        beside.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        beside.replace(self._file)


def device_of(kind: Literal["cuda", "cpu"], report: Report) -> str:
    """Name the device that is measured, and say in the report what the machine is."""
    snapshot = probe(os.environ)
    device = "CPU" if kind == "cpu" else snapshot.gpus[0].name if snapshot.gpus else "no card"
    report.add_machine(device, without_identity(snapshot.to_json()))
    return device
