"""What is the case at a scrape, as gauges: asked for then, so that nothing has to be kept up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

WORKER_STATES: Final = ("starting", "ready", "draining", "lost", "unloaded")


@dataclass(frozen=True)
class CardMemory:
    """The memory of one worker's card in bytes: what it may take, is planned to take at most, and has taken.

    ``measured`` is what its process holds now and ``highest`` the most that it held since its start; None where that
    is not measured, as on the processor.
    """

    card: str
    budget: int
    planned: int
    measured: int | None = None
    highest: int | None = None

    @property
    def plan_error(self) -> float | None:
        """How much more than planned was held at most, as a part of the plan; negative where it was less."""
        if self.highest is None or self.planned <= 0:
            return None
        return self.highest / self.planned - 1


@dataclass(frozen=True)
class Standing:
    """Counts of jobs, sessions and workers by state, and the cards' memory."""

    queued: int = 0
    running: int = 0
    sessions: int = 0
    workers: Mapping[str, int] = field(default_factory=dict)
    cards: tuple[CardMemory, ...] = ()


class StandingCollector(Collector):
    """Asks ``look`` at each scrape; what that raises ends the scrape. Called from other threads than the front's."""

    def __init__(self, look: Callable[[], Standing]) -> None:
        self._look = look

    def collect(self) -> Iterable[Metric]:
        return families(self._look())

    def describe(self) -> Iterable[Metric]:
        """Names alone, for the registry, which asks before there is a front."""
        return families(Standing())


def families(standing: Standing) -> list[Metric]:
    """The gauges of one moment."""
    workers = GaugeMetricFamily("qied_workers", "Workers by state.", labels=["state"])
    for state in WORKER_STATES:
        workers.add_metric([state], standing.workers.get(state, 0))
    memory = GaugeMetricFamily(
        "qied_vram_bytes",
        "Bytes of a worker's device: what it may take, is planned to take at most, and has taken.",
        labels=["kind", "card"],
    )
    error = GaugeMetricFamily(
        "qied_plan_error_ratio",
        "The most memory that a worker has held since its start, against its plan: 0.1 is a tenth more.",
        labels=["card"],
    )
    for card in standing.cards:
        memory.add_metric(["budget", card.card], card.budget)
        memory.add_metric(["planned", card.card], card.planned)
        if card.measured is not None:
            memory.add_metric(["measured", card.card], card.measured)
        if card.plan_error is not None:
            error.add_metric([card.card], card.plan_error)
    return [
        GaugeMetricFamily("qied_jobs_queued", "Jobs that wait.", value=standing.queued),
        GaugeMetricFamily("qied_jobs_running", "Jobs that run.", value=standing.running),
        GaugeMetricFamily("qied_sessions", "Open sessions.", value=standing.sessions),
        workers,
        memory,
        error,
    ]
