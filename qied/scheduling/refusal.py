"""Why a job cannot be taken, with numbers and what to do: checks before the journal, and the texts of conclusions."""

from __future__ import annotations

from collections.abc import Iterable

from qied_client.errors import AboveCap, QueueFull, QuotaExceeded
from qied_client.text import counted

from qied.scheduling.ledger import ledger_of
from qied.scheduling.model import JobCost, Limits, WorkerOffer


def above_cap(cost: JobCost, offers: Iterable[WorkerOffer]) -> AboveCap:
    """The error for a job that fits on none of the workers, of which there is at least one."""
    roomiest = max(offers, key=lambda offer: ledger_of(offer).free_bytes)
    needed, largest = sum(cost.on(roomiest.kind)), ledger_of(roomiest).free_bytes
    return AboveCap(
        f"The job needs {needed:,} bytes of GPU memory on top of the weights, but the largest worker has {largest:,}.",
        "Ask for a smaller picture or fewer references, or raise the memory budget.",
        needed_bytes=needed,
        available_bytes=largest,
    )


def over_quota(user: str, waiting: int, limits: Limits) -> QuotaExceeded:
    """The error for one more job of a user that has as many waiting as it may."""
    return QuotaExceeded(
        f"{user} has {counted(waiting, 'job')} waiting; the limit is {limits.queued_per_user} "
        "(limits.jobs_waiting_per_user).",
        "Wait until one of them starts, or cancel one.",
        setting="limits.jobs_waiting_per_user",
        waiting=waiting,
        limit=limits.queued_per_user,
    )


def queue_full(waiting: int, limits: Limits) -> QueueFull:
    """The error for one more job when all users together have as many waiting as may be."""
    return QueueFull(
        f"{counted(waiting, 'job')} {'is' if waiting == 1 else 'are'} waiting; the limit is {limits.queue_total}.",
        "Try again later.",
        waiting=waiting,
        limit=limits.queue_total,
    )
