"""Names of jobs, and what the scheduler's actions say of them."""

from __future__ import annotations

from typing import Any

from qied.scheduling.model import Conclude, JobKey, Progressed, Start


def key(name: str) -> JobKey:
    return JobKey(*name.split("/"))


def concluded(actions: list[Any]) -> list[Conclude]:
    return [action for action in actions if isinstance(action, Conclude)]


def started(actions: list[Any]) -> list[str]:
    return [f"{action.key.user}/{action.key.job}" for action in actions if isinstance(action, Start)]


def finish_all(front: Any) -> list[str]:
    """Let active jobs succeed one after another, oldest start first; returns the names in that order."""
    order = []
    while front.running():
        name = front.running()[0]
        order.append(name)
        cost = front.requests[key(name)].cost.milliseconds
        front.tell(Progressed(key(name), cost, 0), after_ms=cost)
        front.succeed(name)
    return order
