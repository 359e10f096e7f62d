"""Who is next: jobs that people wait for, then the preemptible ones, each class with accounts of its own.

A user's preemptible jobs take only what no other job wants, so they do not count against that user's other jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from qied.scheduling.record import JobRecord
from qied.scheduling.user_queues import UserQueue, UserQueues

COLLEAGUE_MS = 3_600_000
"""Milliseconds for which a user who was seen counts as one who may come back with an edit."""


class FairQueue:
    """Waiting and active jobs of all users, in both classes."""

    def __init__(self) -> None:
        self.foreground = UserQueues()
        self.preemptible = UserQueues(preemptible=True)
        self._seen_ms: dict[str, int] = {}

    @property
    def waiting(self) -> int:
        """Number of waiting jobs, blocked ones included."""
        return self.foreground.waiting + self.preemptible.waiting

    def waiting_of(self, user: str) -> int:
        """Number of one user's waiting jobs, in both classes."""
        return sum(each.waiting for each in self.queues() if each.name == user)

    def queues(self) -> Iterator[UserQueue]:
        """The queue of each user in each class, the preemptible ones last."""
        yield from self.foreground.users.values()
        yield from self.preemptible.users.values()

    def charged_ms(self, user: UserQueue) -> int:
        """What a user is charged in the class of this queue."""
        return (self.preemptible if user.preemptible else self.foreground).charged_ms(user)

    def seen(self, now_ms: int) -> frozenset[str]:
        """Users who were here of late."""
        return frozenset(user for user, at in self._seen_ms.items() if now_ms - at < COLLEAGUE_MS)

    def see(self, names: Iterable[str], now_ms: int) -> None:
        """Note that users are here."""
        self._seen_ms |= dict.fromkeys(names, now_ms)

    def of(self, job: JobRecord) -> UserQueues:
        """The accounts of the job's class."""
        return self.preemptible if job.preemptible else self.foreground
