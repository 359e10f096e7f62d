"""Whether a user may hand in one more job: what the user has kept, how fast jobs come, and room for the result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from qied_client.errors import DiskFull

from qied.config import LimitsConfig, StorageConfig
from qied.edit import EditSpec
from qied.scheduling.model import JobKey
from qied.server.blobs.ledger import counted, over_share
from qied.server.blobs.ownership import Ownership
from qied.server.blobs.store import BlobStore
from qied.server.jobs import JobBook, result_bytes
from qied.server.ports.account import over_limit


@dataclass
class _Pace:
    spent: float = 0.0
    at_ms: int = 0


class Shares:
    """Bytes of the store that a user may take, and that uploads leave to results. Sums, which the event loop keeps."""

    def __init__(self, config: StorageConfig, jobs: JobBook, ownership: Ownership) -> None:
        self._of_user = int(config.user_share * config.blob_bytes)
        self._of_results = int(config.result_share * config.blob_bytes)
        self._limit = config.blob_bytes
        self._jobs = jobs
        self._ownership = ownership

    def left_to_results(self) -> int:
        """Bytes that uploads must leave; more than the configured share where accepted jobs may need more."""
        return max(self._of_results, self._jobs.promised_bytes)

    def own_bytes(self, user: str) -> int:
        """What a user may have under way, next to blobs that are the user's and results that are to come."""
        return self._of_user - self._ownership.bytes_of(user) - self._jobs.promised_to(user)

    def check(self, user: str, size: int, store: BlobStore) -> None:
        """See that a result of ``size`` bytes will find room; raises QuotaExceeded and DiskFull."""
        left = self.own_bytes(user) - store.under_way(f"user.{user}")
        if counted(size) > left:
            raise over_share(counted(size), max(0, left))
        available = self._limit - store.usage().used - self._jobs.promised_bytes
        if size > available:
            raise DiskFull(
                f"The result may take {size} bytes; of {self._limit} for pictures {max(0, available)} are left.",
                "Release finished jobs and close sessions, or raise storage.blob_bytes.",
                size=size,
                available=max(0, available),
                limit=self._limit,
            )


class Admission:
    """The checks before a new job is journaled; the scheduler's own come in addition."""

    def __init__(self, quotas: LimitsConfig, shares: Shares, jobs: JobBook, store: BlobStore) -> None:
        self._quotas = quotas
        self._shares = shares
        self._jobs = jobs
        self._store = store
        self._pace: dict[str, _Pace] = {}

    def check_room(self, user: str, spec: EditSpec) -> None:
        """See that the result will find room; raises QuotaExceeded or DiskFull."""
        self._shares.check(user, result_bytes(spec), self._store)

    def check(self, user: str, now_ms: int) -> JobKey | None:
        """Raises QuotaExceeded; returns the finished job that has to be forgotten for this one, or None."""
        self._check_pace(user, now_ms)
        kept, most = self._jobs.kept(user), self._quotas.jobs_kept_per_user
        if kept < most:
            return None
        oldest = self._jobs.oldest_fetched(user) or self._jobs.oldest_without_result(user)
        if oldest is None:
            remedy = "Fetch or release some of them; clients do so by themselves once they have the picture."
            raise over_limit("limits.jobs_kept_per_user", kept, "finished jobs with results", remedy, passes=False)
        return oldest

    @contextmanager
    def promised(self, user: str, spec: EditSpec) -> Iterator[None]:
        """Keep room for the result of a job that is on its way into the journal."""
        size = result_bytes(spec)
        self._jobs.promise(user, size)
        try:
            yield
        finally:
            self._jobs.promise(user, -size)

    def _check_pace(self, user: str, now_ms: int) -> None:
        per_minute = self._quotas.submits_per_minute
        pace = self._pace.setdefault(user, _Pace(at_ms=now_ms))
        pace.spent = max(0.0, pace.spent - (now_ms - pace.at_ms) * per_minute / 60_000)
        pace.at_ms = now_ms
        if pace.spent + 1 > per_minute:
            raise over_limit("limits.submits_per_minute", per_minute, "new jobs in a minute", "Wait some seconds.")
        pace.spent += 1
