"""What an edit takes in its worker: milliseconds of each unit of work, and the peak of memory.

Units are timed by events of the card, which the host does not wait for: an edit that is watched runs like any other.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from part_runs.card import card_used

REPORT = "BENCH_REPORT"
"""Variable with the file that a worker's lines go to; not one of the daemon's settings."""


class Watch:
    """Watches one edit after the other; ``before`` are bytes of the card in use before this process used it.

    None for a CPU, whose memory is not measured.
    """

    def __init__(self, report: Path, before: int | None) -> None:
        self._report = report
        self._before = before
        self._marks: list[tuple[str, Any]] = []
        self._reserved_before_edit = 0

    def begin(self) -> None:
        """An edit begins."""
        if self._before is not None:
            self._reserved_before_edit = torch.cuda.max_memory_reserved()
            torch.cuda.reset_peak_memory_stats()
        self._marks = [("", self._now())]

    def unit(self, phase: str) -> None:
        """A unit of work of this phase was handed to the device."""
        self._marks.append((phase, self._now()))

    def end(self) -> None:
        """The edit is over: write its line."""
        write_line(self._report, {"units": self._units(), "memory": self._memory()})

    def _now(self) -> Any:
        if self._before is None:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _units(self) -> list[tuple[str, float]]:
        """Phase and milliseconds of each unit, from the end of the one before to its own."""
        if self._before is not None:
            torch.cuda.synchronize()
        return [
            (phase, round(_between(earlier, mark), 3))
            for (_, earlier), (phase, mark) in zip(self._marks, self._marks[1:], strict=False)
        ]

    def _memory(self) -> dict[str, int] | None:
        """Bytes at the peak: of tensors, of what the allocator reserved, and what the process holds beside that."""
        if self._before is None:
            return None
        return {
            "allocated": torch.cuda.max_memory_allocated(),
            "reserved": torch.cuda.max_memory_reserved(),
            "reserved_before": self._reserved_before_edit,
            "beside": card_used() - self._before - torch.cuda.memory_reserved(),
        }


def _between(earlier: Any, later: Any) -> float:
    if isinstance(earlier, float):
        return float(later - earlier) * 1000
    return float(earlier.elapsed_time(later))


def write_line(report: Path, content: dict[str, Any]) -> None:
    """Add a line of JSON."""
    with report.open("a", encoding="utf-8") as file:
        file.write(json.dumps(content) + "\n")
