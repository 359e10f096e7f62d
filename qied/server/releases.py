"""Finished jobs after their result was told: fetched by the client, then forgotten, then a tombstone."""

from __future__ import annotations

import time
from collections.abc import Iterable

from qied_client.errors import UnknownJob

from qied.scheduling.model import JobKey
from qied.server.blobs.ownership import Ownership
from qied.server.jobs import Job, JobBook
from qied.server.journal.changes import ForgetTombstone, MarkFetched, ReleaseJob
from qied.server.journal.journal import Journal

_TOMBSTONES_PER_USER = 10_000


class ReleasedJobs:
    """Tombstones: ids of jobs that were released, with their payload hashes; of each user the newest 10,000."""

    def __init__(self, released: Iterable[tuple[JobKey, str]]) -> None:
        self._hashes: dict[str, dict[str, str]] = {}
        for key, payload_hash in released:
            self.add(key, payload_hash)

    def __contains__(self, key: JobKey) -> bool:
        return self.get(key) is not None

    def get(self, key: JobKey) -> str | None:
        """The payload hash of a released job, or None."""
        return self._hashes.get(key.user, {}).get(key.job)

    def gives_way(self, user: str) -> JobKey | None:
        """The tombstone that the next one of this user takes the place of, if any."""
        theirs = self._hashes.get(user, {})
        return None if len(theirs) < _TOMBSTONES_PER_USER else JobKey(user, next(iter(theirs)))

    def add(self, key: JobKey, payload_hash: str) -> None:
        """Enter a released job."""
        oldest = self.gives_way(key.user)
        if oldest is not None:
            self.forget([oldest])
        self._hashes.setdefault(key.user, {})[key.job] = payload_hash

    def forget(self, keys: Iterable[JobKey]) -> None:
        """Forget tombstones that have expired."""
        for key in keys:
            self._hashes.get(key.user, {}).pop(key.job, None)


class Releases:
    """Marks finished jobs as fetched, and forgets them; ``tombstones`` are those that are forgotten."""

    def __init__(
        self, journal: Journal, jobs: JobBook, ownership: Ownership, released: Iterable[tuple[JobKey, str]]
    ) -> None:
        self._journal = journal
        self._jobs = jobs
        self._ownership = ownership
        self.tombstones = ReleasedJobs(released)

    def job(self, key: JobKey, *, asked_by: str | None = None) -> Job:
        """The job; raises UnknownJob."""
        job = self._jobs.get(key)
        if job is None:
            raise self.unknown(key, asked_by=asked_by)
        return job

    def unknown(self, key: JobKey, *, asked_by: str | None = None, seed: int | None = None) -> UnknownJob:
        """The error for a job that is not kept, told to its own user or to another one (``asked_by``)."""
        if key in self.tombstones:
            same = "the same --seed" if seed is None else f"--seed {seed}"
            return UnknownJob(
                f"Job {key.job!r} was released or has expired, and its picture is gone.",
                f"Submit the edit again under a new id; with {same} it makes the same picture.",
            )
        who = "You have" if asked_by in (None, key.user) else f"{key.user} has"
        return UnknownJob(
            f"{who} no job {key.job!r}.",
            "It was never submitted, was released, or has expired; 'qied jobs' lists those that are kept.",
        )

    async def mark_fetched(self, job: Job) -> None:
        """The client has the result of a finished job: it stays for now, and is the first to make way."""
        if job.fetched_at is None:
            now = time.time()
            await self._journal.apply(MarkFetched(job.key.user, job.key.job, now))
            job.fetched_at = now

    async def forget(self, job: Job) -> None:
        """Release a finished job."""
        oldest = self.tombstones.gives_way(job.key.user)
        forgotten = () if oldest is None else (ForgetTombstone(oldest.user, oldest.job),)
        await self._journal.apply(ReleaseJob(job.key.user, job.key.job, time.time()), *forgotten)
        self.are_gone([job.key])
        if job.outcome is not None and job.outcome.result_blob is not None:
            self._ownership.give_up(job.key.user, job.outcome.result_blob)

    def are_gone(self, keys: Iterable[JobKey]) -> None:
        """These jobs have left the journal: remember that they existed, so that a late SUBMIT does not run them."""
        for key in keys:
            job = self._jobs.get(key)
            if job is not None:
                self.tombstones.add(key, job.payload_hash)
                self._jobs.drop([key])
