"""One accepted edit: its news, its outcome, its picture."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

from qied_client.aio.listener import Listener, Tell
from qied_client.errors import QiedError, RequestTimeout, UnknownBlob
from qied_client.job_status import JobStatus
from qied_client.net.notes import add_note
from qied_client.net.time_limit import time_limit
from qied_client.protocol import messages as m
from qied_client.results import OnProgress, Progress, Result

if TYPE_CHECKING:
    from qied_client.aio.client import AsyncClient


def take_up(job_id: str) -> str:
    """How a picture is had later."""
    return f"Fetch its picture with client.job({job_id!r}).result()."


def named(error: QiedError, job_id: str, how: str = "", *, finished: bool = False) -> QiedError:
    """The same error, which also says that the job goes on, and ``how`` its picture is had later.

    An error that says so already gets only the other ``how``.
    """
    how = how or take_up(job_id)
    if error.details.get("job") == job_id:
        message, remedy = error.message, error.remedy.removesuffix(take_up(job_id)).strip()
    else:
        state = f"{job_id} has finished, and the daemon" if finished else f"The daemon goes on with {job_id} and"
        message, remedy = f"{error.message} {state} keeps its picture.", error.remedy
    again = type(error)(message, f"{remedy} {how}".strip(), **{**error.details, "job": job_id})
    again.__cause__ = error
    return again


class AsyncJob:
    """One accepted edit. Any number of tasks may wait for its events and its result."""

    def __init__(self, client: AsyncClient, job: str, turn: int | None = None) -> None:
        self._client = client
        self.id = job
        self.turn = turn
        self._news: list[m.Event | m.Result | Progress] = []
        self._preview_at: int | None = None
        self._changed = asyncio.Event()
        self._failure: QiedError | None = None
        self._taken_up: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<AsyncJob {self.id}>" if self.turn is None else f"<AsyncJob {self.id}, turn {self.turn}>"

    def _push(self, news: m.Event | m.Result | Progress) -> None:
        if isinstance(news, m.Event) and news.preview:
            self._forget_preview()
            self._preview_at = len(self._news)
        self._news.append(news)
        self._wake()

    def _forget_preview(self) -> None:
        """Keep the pixels of the newest preview only: late readers of the events need no older ones."""
        older = None if self._preview_at is None else self._news[self._preview_at]
        if isinstance(older, m.Event) and self._preview_at is not None:
            self._news[self._preview_at] = replace(older, preview=b"")

    def _fail(self, error: QiedError) -> None:
        self._failure = named(error, self.id)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _messages(self) -> AsyncIterator[m.Event | m.Result | Progress]:
        seen = 0
        while True:
            changed = self._changed
            while seen < len(self._news):
                news = self._news[seen]
                seen += 1
                yield news
                if isinstance(news, m.Result):
                    return
            if self._failure is not None:
                raise self._failure
            await changed.wait()

    async def events(self) -> AsyncIterator[Progress]:
        """Progress from the beginning to the end; ends when the outcome is there."""
        async for news in self._messages():
            if isinstance(news, Progress):
                yield news
            elif isinstance(news, m.Event):
                yield _progress(news)

    def __aiter__(self) -> AsyncIterator[Progress]:
        """The same as ``events()``."""
        return self.events()

    @property
    def latest_preview(self) -> Progress | None:
        """The newest picture on the way that has come, as ``events()`` tells it; None before the first."""
        news = None if self._preview_at is None else self._news[self._preview_at]
        return _progress(news) if isinstance(news, m.Event) else None

    async def outcome(self) -> m.Result:
        """Wait for the outcome, whatever it is."""
        async for news in self._messages():
            if isinstance(news, m.Result):
                return news
        raise AssertionError("events end with an outcome")

    async def result(self, *, timeout: float | None = None, on_progress: OnProgress | None = None) -> Result:
        """Wait for the outcome and fetch the picture.

        Raises the job's typed error where it did not succeed, RequestTimeout after ``timeout`` seconds (the job goes
        on then, and the result can be asked for again).
        """
        listener = Listener(on_progress)
        try:
            async with time_limit(timeout) as limit:
                return await listener.during(self._result(listener))
        except TimeoutError:
            if not limit.expired():
                raise
            raise RequestTimeout(
                f"Job {self.id} has not finished after {timeout:g} s.",
                "It continues: ask again, or cancel it.",
                job=self.id,
            ) from None
        except asyncio.CancelledError as error:
            add_note(error, f"Job {self.id} goes on. {take_up(self.id)}")
            raise

    async def _result(self, tell: Tell) -> Result:
        outcome = await self.outcome()
        error = outcome.error()
        if error is not None:
            error.details["job"] = self.id
            raise error
        assert outcome.blob is not None, "a success has a picture"
        try:
            data = await self._client._download(outcome.blob, tell)
        except UnknownBlob as gone:
            gone.details["job"] = self.id
            raise
        except QiedError as failure:
            raise named(failure, self.id, finished=True) from failure
        return Result(
            bytes=data,
            media_type=outcome.media_type,
            width=outcome.width,
            height=outcome.height,
            seed=outcome.seed,
            timings=outcome.timings,
            job=self.id,
            turn=self.turn,
            steps=outcome.steps,
            true_cfg_scale=outcome.true_cfg_scale,
            precision=outcome.precision,
            preset=outcome.preset,
            schedule=outcome.schedule,
            warnings=outcome.warnings,
            drift=outcome.drift,
        )

    async def status(self) -> JobStatus:
        """Ask for everything that the daemon knows of the job; raises UnknownJob."""
        return JobStatus.of(await self._client._fetch(self.id))

    async def thumbnail(self) -> bytes:
        """A small JPEG of the result, at most 256 pixels on its longer side; empty where there is none (yet)."""
        return bytes((await self._client._fetch(self.id, thumbnail=True)).thumbnail)

    async def cancel(self) -> str:
        """Stop the job; returns ``cancelled``, or ``finished`` if it was too late. Idempotent."""
        return await self._client.cancel(self.id)

    async def release(self, *, keep: bool = False) -> None:
        """Have the daemon delete the result now; with ``keep``, not before your room there is needed."""
        await self._client.release(self.id, keep=keep)


def _progress(news: m.Event) -> Progress:
    return Progress(
        news.kind,
        done=news.step,
        total=news.steps,
        phase=news.phase or "",
        place=news.place,
        starts_in_ms=news.starts_in_ms,
        remaining_ms=news.remaining_ms,
        preview=bytes(news.preview),
        note=news.note,
    )
