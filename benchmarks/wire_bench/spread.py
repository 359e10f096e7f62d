"""What many samples come to, and how much that moves between rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


def quantile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least ``share`` (0 to 1) of all are not above; 0.0 of no samples."""
    if not samples:
        return 0.0
    ordered = sorted(samples)
    return ordered[max(0, min(len(ordered) - 1, -int(-share * len(ordered) // 1) - 1))]


@dataclass(frozen=True)
class Spread:
    """Samples of one round in few numbers, in the unit of the samples."""

    count: int
    p50: float
    p99: float
    worst: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Sum up one round."""
        return cls(
            len(samples),
            round(quantile(samples, 0.5), 3),
            round(quantile(samples, 0.99), 3),
            round(max(samples, default=0.0), 3),
        )


@dataclass(frozen=True)
class Figure:
    """One figure over several rounds: the median of the rounds, and the lowest and highest as its noise."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Figure:
        """Sum up the rounds; there must be one at least."""
        return cls(round(median(rounds), 3), round(min(rounds), 3), round(max(rounds), 3), len(rounds))

    def __str__(self) -> str:
        return f"{self.median:,.1f}  ({self.low:,.1f} to {self.high:,.1f})"
