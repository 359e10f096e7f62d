"""Deletes old results, sessions, tombstones and unused pictures, or those that take the room of new uploads."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial

import structlog
from qied_client.errors import DiskFull, QiedError

from qied.config import StorageConfig
from qied.scheduling.model import JobKey
from qied.server.blobs.ledger import counted
from qied.server.blobs.ownership import Ownership
from qied.server.blobs.store import BlobStore
from qied.server.clock import ExpiryClock
from qied.server.jobs import Job, JobBook
from qied.server.journal.changes import DisownBlob, ExpireBefore, Key, StoreOutcome
from qied.server.journal.journal import Journal
from qied.server.off_loop import off_loop
from qied.server.releases import Releases
from qied.server.sessions import SessionBook

_INTERVAL_S = 300.0
_MOST_AT_ONCE = 1000
"""Jobs, sessions and uploads that one sweep lets expire."""
_GRACE_S = 600.0
"""Files younger than this are never collected: an upload may be on its way into the journal."""
_UNUSED_S = 60.0
"""Seconds without use after which a picture may go to make room for others of its owner."""


class Housekeeper:
    """Runs now and then, and whenever the disk is full."""

    def __init__(
        self,
        config: StorageConfig,
        journal: Journal,
        store: BlobStore,
        executor: Executor,
        jobs: JobBook,
        sessions: SessionBook,
        ownership: Ownership,
        releases: Releases,
        known_time: float | None,
        own_bytes: Callable[[str], int],
    ) -> None:
        """``known_time`` is the newest time in the journal that was right, in seconds since the epoch.

        ``own_bytes`` says how much a user may have under way within the user's share.
        """
        self._log = structlog.get_logger(part="housekeeping")
        self._config = config
        self._journal = journal
        self._store = store
        self._executor = executor
        self._jobs = jobs
        self._sessions = sessions
        self._ownership = ownership
        self._releases = releases
        self._clock = ExpiryClock(known_time, time.time(), time.monotonic())
        self._waits_for_clock = False
        self._own_bytes = own_bytes
        self._forgetting = asyncio.Lock()

    async def run(self) -> None:
        """Keep house for ever."""
        while True:
            try:
                await self.sweep()
            except (QiedError, OSError) as error:
                self._log.error("housekeeping is postponed", reason=str(error))
            await asyncio.sleep(_INTERVAL_S)

    async def sweep(self) -> None:
        """Delete whatever has expired."""
        now = self._now()
        results_before = now - self._config.result_hours * 3600
        sessions_before = now - self._config.session_hours * 3600
        fetched_before = now - self._config.fetched_hours * 3600
        expired = await self._journal.expire(
            ExpireBefore(results_before, results_before, sessions_before, now, _MOST_AT_ONCE, fetched_before)
        )
        self._releases.are_gone(JobKey(*pair) for pair in expired.jobs)
        self._releases.tombstones.forget(JobKey(*pair) for pair in expired.tombstones)
        self._sessions.drop(expired.sessions)
        needed = self._needed()
        stale = [
            owner
            for owner in self._ownership.older_than(now - self._config.upload_hours * 3600)
            if owner.hash not in needed
        ][:_MOST_AT_ONCE]
        if stale:
            await self._journal.apply(*(DisownBlob(owner.user, owner.hash) for owner in stale))
            self._ownership.disown((owner.user, owner.hash) for owner in stale)
        keep = self._needed() | self._ownership.owned
        removed = await off_loop(self._executor, self._store.collect, keep, now - _GRACE_S)
        if expired.jobs or expired.sessions or removed.blobs:
            self._log.info("swept", jobs=len(expired.jobs), sessions=len(expired.sessions), blobs=len(removed.blobs))

    def _now(self) -> float:
        """The time by which things expire; says when that begins and ceases to differ from the system's clock."""
        wall, monotonic = time.time(), time.monotonic()
        now = self._clock.now(wall, monotonic)
        ahead = self._clock.ahead_s(wall, monotonic)
        if ahead and not self._waits_for_clock:
            self._log.info(
                "the system's clock is ahead of the last known time, so nothing expires by it for an hour",
                hours_ahead=round(ahead / 3600, 1),
            )
        elif self._waits_for_clock and not ahead:
            self._log.info("the system's clock is believed again")
        self._waits_for_clock = bool(ahead)
        return now

    async def make_room(self, user: str | None, size: int) -> bool:
        """Delete unused pictures, the oldest first, for ``size`` bytes; returns whether that was enough.

        Only what this user alone owns, or what has no owner, goes; without a user, it is room for a result.
        """
        used_before = time.time() - _UNUSED_S
        if user is not None and not await self._make_room_in_share(user, size, used_before):
            return False
        pinned = self._needed() | self._ownership.of_others(user)
        owner = "" if user is None else f"user.{user}"
        make_room = partial(self._store.make_room, owner=owner, result=user is None)
        try:
            removed = await off_loop(self._executor, make_room, size, pinned, used_before)
        except DiskFull:
            return False
        await self._disown(key for blob in removed.blobs for key in self._ownership.of_blob(blob))
        return True

    async def make_more_room(self, user: str, size: int) -> bool:
        """Make room as ``make_room``; where that is not enough, forget results that the user has fetched."""
        while not await self.make_room(user, size):
            if not await self.forget_fetched(user, size):
                return False
        return True

    async def forget_fetched(self, user: str, size: int, *, result: bool = False) -> bool:
        """Forget the oldest result of a user that its client has, and delete it, for ``size`` bytes of an upload.

        ``result``: for those of a result, to which uploads leave room. Returns whether there is more room now. Nothing
        is forgotten where all of them would not be enough.
        """
        async with self._forgetting:
            spare = self._spare(user)
            if not spare or not self._could_fit(user, size, spare, result=result):
                return False
            job, outcome = spare[0]
            await self._releases.forget(job)
            self._log.info("forgot a fetched result to make room", user=user, job=job.key.job)
            if outcome.result_blob is not None:
                await self._delete_unused(user, outcome.result_blob, outcome.finished_at)
            return True

    def _spare(self, user: str) -> list[tuple[Job, StoreOutcome]]:
        """Jobs of a user whose results can be forgotten, the first fetched first.

        A result that is a turn's as well, or the picture that another job reads, would free nothing.
        """
        needed = self._needed_by(user)
        fetched = [(job, job.outcome) for job in self._jobs.fetched(user) if job.outcome is not None]
        return [(job, outcome) for job, outcome in fetched if needed[outcome.result_blob or ""] == 1]

    def _needed_by(self, user: str) -> Counter[str]:
        """How often a user's jobs, sessions and requests need each blob."""
        needed = Counter(blob for job in self._jobs.of_user(user) for blob in _blobs(job))
        needed.update(blob for session in self._sessions.of_user(user) for blob in session.blobs)
        needed.update(self._ownership.held)
        return needed

    def _could_fit(self, user: str, size: int, spare: Sequence[tuple[Job, StoreOutcome]], *, result: bool) -> bool:
        """Whether ``size`` bytes would find room if all ``spare`` results and what the user does not use were gone."""
        needed, used_before = self._needed(), time.time() - _UNUSED_S
        unused = [owner.size for owner in self._ownership.of_user(user, used_before) if owner.hash not in needed]
        results = [outcome.result_bytes for _, outcome in spare]
        missing = counted(size) + self._store.under_way(f"user.{user}") - self._own_bytes(user)
        if missing > sum(counted(each) for each in (*unused, *results)):
            return False
        pinned = needed | self._ownership.of_others(user)
        return self._store.shortfall(size, pinned, used_before, result=result) <= sum(results)

    async def _delete_unused(self, user: str, blob: str, used_before: float) -> None:
        """Have a user give up a picture that was not used since, and delete it unless others have it."""
        if self._ownership.stored_at(user, blob) > used_before or blob in self._needed_by(user):
            return
        await self._disown([(user, blob)])
        if blob not in self._ownership.owned and blob not in self._needed():
            await off_loop(self._executor, self._store.remove, blob, used_before)

    async def _make_room_in_share(self, user: str, size: int, used_before: float) -> bool:
        """Have a user give up unused pictures until ``size`` bytes fit into the user's share."""
        missing = counted(size) + self._store.under_way(f"user.{user}") - self._own_bytes(user)
        needed, given_up = self._needed(), list[Key]()
        for owner in self._ownership.of_user(user, used_before) if missing > 0 else ():
            if missing > 0 and owner.hash not in needed:
                given_up.append((user, owner.hash))
                missing -= counted(owner.size)
        if missing > 0:
            return False
        await self._disown(given_up)
        return True

    async def _disown(self, keys: Iterable[Key]) -> None:
        gone = list(keys)
        if gone:
            self._ownership.disown(gone)
            await self._journal.apply(*(DisownBlob(user, blob) for user, blob in gone))

    def _needed(self) -> frozenset[str]:
        """Blobs of unreleased jobs, their results, open sessions and requests that are being taken in."""
        needed = set(self._ownership.held)
        for job in self._jobs:
            needed.update(_blobs(job))
        for session in self._sessions:
            needed.update(session.blobs)
        return frozenset(needed)


def _blobs(job: Job) -> Iterator[str]:
    """The pictures that a job reads, and its result; of a fetched job only the result, since it reads no more."""
    if job.fetched_at is None:
        yield from job.spec.pictures
    if job.outcome is not None and job.outcome.result_blob is not None:
        yield job.outcome.result_blob
