"""Bars: what figures have to reach, and whether they do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

Parts = Mapping[str, Any]
"""The parts of a report by name."""


@dataclass(frozen=True)
class Bar:
    """One bar: ``measure`` gives the figure, None where what it needs was not measured.

    It is met at ``limit`` and above it, or below it with ``at_most``. ``parts`` are those that the figure is made of:
    where they ran on different devices, or one of them is missing, there is no figure.
    """

    name: str
    limit: float
    unit: str
    parts: tuple[str, ...]
    measure: Callable[[Parts], float | None]
    at_most: bool = False

    def judged(self, parts: Parts) -> dict[str, Any]:
        """The bar with its figure and whether it is met, as JSON."""
        value = self._value(parts)
        met = None if value is None else (value <= self.limit if self.at_most else value >= self.limit)
        return {
            "name": self.name,
            "value": value,
            "limit": self.limit,
            "at_most": self.at_most,
            "unit": self.unit,
            "met": met,
        }

    def _value(self, parts: Parts) -> float | None:
        if not all(name in parts for name in self.parts) or len({parts[name]["device"] for name in self.parts}) != 1:
            return None
        value = self.measure({name: parts[name]["figures"] for name in self.parts})
        return None if value is None else round(value, 5)


def figure(figures: Any, *path: str | int) -> Any:
    """What lies under ``path`` in nested figures; None where it was not measured, or went wrong."""
    place = figures
    for name in path:
        if isinstance(place, list) and isinstance(name, int):
            place = place[name] if name < len(place) else None
        else:
            place = place.get(name) if isinstance(place, Mapping) else None
    return None if isinstance(place, Mapping) and "error" in place else place


def ratio(above: float | None, below: float | None) -> float | None:
    """One figure over another, where both are there."""
    return None if above is None or not below else above / below


def show_bars(bars: Iterable[Mapping[str, Any]], console: Console) -> None:
    """Print bars as a table."""
    table = Table("bar", "measured", "has to be", "")
    for bar in bars:
        sign = "≤" if bar["at_most"] else "≥"
        table.add_row(
            bar["name"], said(bar["value"], bar["unit"]), f"{sign} {said(bar['limit'], bar['unit'])}", _mark(bar)
        )
    console.print(table)


def said(value: float | None, unit: str) -> str:
    """A figure as people read it."""
    if value is None:
        return "-"
    if unit == "share":
        return f"{value:.2%}"
    if unit == "yes":
        return "yes" if value >= 1 else "no"
    return f"{value:.2f}{unit}" if unit == "x" else f"{value:.4g} {unit}"


def _mark(bar: Mapping[str, Any]) -> str:
    return "-" if bar["met"] is None else "[green]met[/]" if bar["met"] else "[red]missed[/]"
