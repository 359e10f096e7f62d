"""Workers whose memory is given back while there is nothing to do, and when they come back."""

from __future__ import annotations

from collections.abc import Mapping

from qied.scheduling.model import WaitReason, WorkerOffer
from qied.scheduling.queue import FairQueue
from qied.scheduling.record import WorkerRecord


class Standby:
    """Which workers are unloaded, and which of them are on their way back.

    A worker is unloaded for idleness and woken by the same rule, ``has_use_for``, so none comes and goes for nothing.
    """

    def __init__(self, idle_unload_ms: int) -> None:
        self._idle_unload_ms = idle_unload_ms
        self._asleep: dict[str, None] = {}
        self._waking: dict[str, bool] = {}
        """Workers on their way back, and for each whether it has failed to come so far."""

    @property
    def wait_reason(self) -> WaitReason:
        """What jobs wait for when no other worker is there."""
        if not self._waking:
            return ""
        return "late" if all(self._waking.values()) else "loading"

    def sleeps(self, name: str) -> bool:
        """Whether a worker is unloaded."""
        return name in self._asleep

    def put_to_sleep(self, name: str) -> None:
        """Note that a worker is unloaded."""
        self._waking.pop(name, None)
        self._asleep[name] = None

    def is_up(self, name: str) -> None:
        """Note that a worker is back, or gone for good."""
        self._asleep.pop(name, None)
        self._waking.pop(name, None)

    def is_late(self, name: str) -> None:
        """Note that a worker could not start: another one may be woken instead, while it is tried again."""
        if name in self._waking:
            self._waking[name] = True

    def wake_all(self) -> list[str]:
        """Wake all that sleep; returns their names."""
        names = list(self._asleep)
        self._waking |= dict.fromkeys(names, False)
        self._asleep = {}
        return names

    def wake_one(self, offers: Mapping[str, WorkerOffer | None], queue: FairQueue, active_per_user: int) -> str | None:
        """Wake a worker for the jobs that wait, unless one is coming that may take them all; returns its name.

        ``offers`` has what each had to offer, None for one that was never ready and so may hold anything.
        """
        if not all(self._waking.values()):
            return None
        for name in self._asleep:
            offer = offers.get(name)
            if has_use_for(None if offer is None else WorkerRecord(offer), queue, active_per_user):
                del self._asleep[name]
                self._waking[name] = False
                return name
        return None

    def idle_for_too_long(self, worker: WorkerRecord, now_ms: int, *, busy: bool) -> bool:
        """Whether a worker has had nothing to do for the whole time; ``busy``: a waiting job could start on it."""
        if not self._idle_unload_ms or worker.active or busy:
            worker.idle_since_ms = None
            return False
        if worker.idle_since_ms is None:
            worker.idle_since_ms = now_ms
        return now_ms - worker.idle_since_ms >= self._idle_unload_ms


def has_use_for(worker: WorkerRecord | None, queue: FairQueue, active_per_user: int) -> bool:
    """Whether a job waits that could start on the worker if it were there and empty; None is a worker of any size."""
    return any(
        worker is None or worker.fits_empty(job.cost)
        for user in queue.queues()
        if len(user.active) < active_per_user
        for job in user.ready()
    )
