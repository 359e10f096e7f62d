"""Carries edits out: hands them in, fetches their pictures, and calls off what its caller has given up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

from qied_client.aio.calls import Calls
from qied_client.aio.following import Following
from qied_client.aio.job import AsyncJob, named
from qied_client.aio.listener import Listener
from qied_client.aio.submission import Submission
from qied_client.errors import QiedError, RequestTimeout
from qied_client.net.notes import add_note
from qied_client.net.time_limit import time_limit
from qied_client.protocol import messages as m
from qied_client.results import OnProgress, Result

_BACKGROUND_S = 1.0
"""How long closing waits for results to be released and edits to be cancelled; results expire by themselves."""
_CANCEL_S = 1.0
"""How long a caller who gives up waits for the daemon to say that the edit is cancelled."""
_RELEASE_KEEPS = 2
"""Version of the protocol whose RELEASE can leave the picture where it is."""


class Editing:
    """The edits of one client."""

    def __init__(self, calls: Calls, following: Following) -> None:
        self._calls = calls
        self._following = following
        self._background: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Wait a moment for what goes on in the background."""
        if self._background:
            await asyncio.wait(self._background, timeout=_BACKGROUND_S)

    async def hand_in(self, submission: Submission, on_progress: OnProgress | None) -> AsyncJob:
        """Submit one job, which goes on whatever becomes of its caller."""
        listener = Listener(on_progress)
        try:
            return (await listener.during(self._submit(submission, listener)))[0]
        except asyncio.CancelledError as error:
            add_note(error, submission.fate_if_left())
            raise

    async def _submit(self, submission: Submission, listener: Listener) -> list[AsyncJob]:
        with self._following.told(listener):
            await submission.hand_in(listener)
        jobs = submission.accepted.items()
        return [await self._following.follow(job, accepted.turn, named) for job, accepted in jobs]

    async def carry_out(
        self, submission: Submission, timeout: float | None, on_progress: OnProgress | None, *, named_by_caller: bool
    ) -> list[Result]:
        """Submit and fetch; a caller who gives up waiting gives up the edit."""
        listener = Listener(on_progress)
        try:
            async with time_limit(timeout) as limit:
                results = await listener.during(self._results(submission, listener))
        except QiedError:
            raise
        except TimeoutError as error:
            says, remedy = await self._call_off(submission)
            if not limit.expired():
                add_note(error, f"{says} {remedy}".rstrip())
                raise
            jobs = {"job": " ".join(submission.jobs)}
            raise RequestTimeout(f"The edit did not finish within {timeout:g} s. {says}", remedy, **jobs) from None
        except BaseException as error:  # the task was cancelled, or on_progress raised
            add_note(error, " ".join(await self._call_off(submission)).rstrip())
            raise
        for result in results:
            self._release_later(result.job, named_by_caller)
        return results

    async def _results(self, submission: Submission, listener: Listener) -> list[Result]:
        try:
            jobs = await self._submit(submission, listener)
        except QiedError:
            if 0 < len(submission.accepted) < len(submission.jobs):  # all of them or none
                self._begin(submission.call_off())
            raise
        outcomes = await asyncio.gather(*(self._finish(job, listener) for job in jobs), return_exceptions=True)
        failed = [(job, one) for job, one in zip(jobs, outcomes, strict=True) if isinstance(one, BaseException)]
        if failed:
            raise _among_others(failed, jobs)
        return [one for one in outcomes if isinstance(one, Result)]

    async def _finish(self, job: AsyncJob, listener: Listener) -> Result:
        async def report() -> None:
            async for progress in job.events():
                listener(progress)

        if not listener.listens:
            return await job._result(listener)
        reporting = asyncio.ensure_future(report())
        try:
            result = await job._result(listener)
            await reporting
            return result
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)

    async def _call_off(self, submission: Submission) -> tuple[str, str]:
        """Cancel an edit and say what became of it; the daemon has a second to answer."""
        calling = self._begin(submission.call_off())
        await asyncio.wait({calling}, timeout=_CANCEL_S)
        return submission.fate()

    @property
    def keeps_released(self) -> bool:
        """Whether the daemon can leave a picture where it is once it was fetched, for the next who asks."""
        welcome = self._calls.welcome
        return welcome is not None and welcome.version >= _RELEASE_KEEPS

    def _release_later(self, job_id: str, named_by_caller: bool) -> None:
        """Say that the picture is here. Nothing waits for this; if it fails, the result expires by itself.

        A daemon of version 1 deletes it then, so one whose job the caller may ask for again by its name is left there.
        """
        if self.keeps_released or not named_by_caller:
            self._begin(self._release(job_id))

    async def _release(self, job_id: str) -> None:
        with suppress(QiedError):
            await self._calls.ask(lambda n: m.Release(n, job_id, keep=self.keeps_released))

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


def _among_others(failed: Sequence[tuple[AsyncJob, BaseException]], jobs: Sequence[AsyncJob]) -> BaseException:
    """The first error of several results, which names the jobs whose pictures there are."""
    job, error = failed[0]
    others = [other.id for other in jobs if other.id not in {each.id for each, _ in failed}]
    if not isinstance(error, QiedError) or len(jobs) == 1:
        return error
    kept = f" The pictures of {', '.join(others)} are kept." if others else ""
    fetch = f" Fetch each with client.job({others[0]!r}).result()." if others else ""
    details = {**error.details, "job": job.id, "others": " ".join(others)}
    return type(error)(f"Job {job.id}: {error.message}{kept}", f"{error.remedy}{fetch}".strip(), **details)
