"""The jobs that one client follows: their news, their ends, and what all hear when the connection is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qied_client.aio.calls import Calls
from qied_client.aio.job import AsyncJob
from qied_client.aio.listener import Tell
from qied_client.errors import QiedError
from qied_client.protocol import messages as m
from qied_client.results import Progress

CONNECTION_LOST = "connection lost"
"""Note of the news that the daemon cannot be reached for now; calls and jobs wait for it."""


class Following:
    """The jobs that are followed, by their ids, and the calls that wait for something else."""

    def __init__(self, calls: Calls, make_job: Callable[[str, int | None], AsyncJob]) -> None:
        self._calls = calls
        self._make_job = make_job
        self._jobs: dict[str, AsyncJob] = {}
        self._listening: set[Tell] = set()

    async def follow(
        self, job_id: str, turn: int | None, name: Callable[[QiedError, str], QiedError] | None = None
    ) -> AsyncJob:
        """Follow a job; ``name`` makes the error of one that was accepted."""
        job = self._jobs.get(job_id)
        if job is None:
            job = self._jobs[job_id] = self._make_job(job_id, turn)
            self._calls.ends.began()
            job._taken_up = asyncio.create_task(self._take_up(job), name=f"take up {job_id}")
            job._taken_up.add_done_callback(lambda task: task.cancelled() or task.exception())
        assert job._taken_up is not None, "a job in the table is being taken up"
        try:
            await asyncio.shield(job._taken_up)
        except QiedError as error:
            if name is None:
                raise
            raise name(error, job_id) from error
        return job

    async def _take_up(self, job: AsyncJob) -> None:
        """Follow a job in one task for all waiters, so that one that gives up does not affect the others."""
        try:
            await self._calls.follow(job.id, job._push)
        except QiedError:
            if self._jobs.get(job.id) is job:
                self.drop(job.id)
            raise

    def drop(self, job_id: str) -> None:
        """Follow a job no longer: it has ended, or was given up."""
        if self._jobs.pop(job_id, None) is not None:
            self._calls.ends.ended()

    def pushed(self, message: m.Message) -> None:
        """Pass news on to their job."""
        if isinstance(message, (m.Event, m.Result)) and message.job in self._jobs:
            self._jobs[message.job]._push(message)
            if isinstance(message, m.Result):
                self.drop(message.job)

    def failed(self, error: QiedError) -> None:
        """The connection was given up: everything that waits hears why."""
        self._calls.outage.happened(error)
        for job in list(self._jobs.values()):
            job._fail(error)
            self._calls.unfollow(job.id)
            self.drop(job.id)

    def absence(self, absent: bool) -> None:
        """Tell everybody that the connection is lost, or there again."""
        news = Progress("waiting", note=CONNECTION_LOST if absent else "connected again")
        for job in self._jobs.values():
            job._push(news)
        for tell in self._listening:
            tell(news)

    @contextmanager
    def told(self, tell: Tell) -> Iterator[None]:
        """News of the connection reach this call meanwhile, which waits for no job."""
        self._listening.add(tell)
        try:
            yield
        finally:
            self._listening.discard(tell)
