"""The way of an edit from its pictures to the daemon's disk, and back again where its caller gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from qied_client.aio.calls import Calls
from qied_client.aio.job import take_up
from qied_client.aio.listener import Tell
from qied_client.aio.other_pictures import NO_OTHERS, OtherPictures
from qied_client.aio.uploads import PictureUpload
from qied_client.errors import QiedError, UnknownBlob, UnreachableError
from qied_client.inputs import Picture
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.request import EditRequest

_ATTEMPTS = 3
"""How often pictures are uploaded that are gone from the daemon before the edit has come."""


class Submission:
    """One edit that is handed in, or ``n`` of the same pictures, which differ in their seeds.

    ``accepted`` are the jobs that are on the daemon's disk. Once it was called off, ``cancelled`` are those that ended
    so, ``finished`` those whose pictures were there before, and ``unsure`` those of which the daemon has not said.
    """

    def __init__(
        self,
        calls: Calls,
        pictures: Sequence[Picture],
        request: EditRequest,
        jobs: Sequence[str],
        others: OtherPictures = NO_OTHERS,
        *,
        session: str | None = None,
        base: int | None = None,
    ) -> None:
        self._calls = calls
        self._pictures = pictures
        self._others = others
        self._request = request
        self._session = session
        self._base = base
        self._sent: dict[str, asyncio.Task[m.Accepted]] = {}
        self.jobs = jobs
        self.accepted: dict[str, m.Accepted] = {}
        self.cancelled: list[str] = []
        self.finished: list[str] = []
        self.unsure: list[str] = []

    async def hand_in(self, tell: Tell) -> None:
        """Upload what the daemon does not have and submit all jobs; returns once they are on its disk."""
        async with self._calls.preparing(tell):
            uploads = [await asyncio.to_thread(PictureUpload, picture) for picture in self._pictures]
            others = await self._others.uploads()
            images = tuple(upload.hash for upload in uploads)
            request = others.named_in(replace(self._request, images=images)).validated()
            if uploads:
                sizes = tuple(upload.size for upload in uploads)
                await self._calls.ask(lambda n: m.Quote(n, request, sizes, others.canvas_size), "quote", tell)
            for number, job in enumerate(self.jobs):
                seed = (request.seed + number) % (limits.SEED + 1)
                await self._bring(job, replace(request, seed=seed), [*uploads, *others.all], tell, upload=number == 0)

    async def _bring(
        self, job: str, request: EditRequest, uploads: Sequence[PictureUpload], tell: Tell, *, upload: bool
    ) -> None:
        """Submit one job; pictures that the daemon no longer has by then are uploaded again."""
        for attempt in range(_ATTEMPTS):
            if upload or attempt:
                for picture in uploads:
                    await self._calls.upload(picture, tell)
                    picture.give_up_bytes()
            try:
                self.accepted[job] = await self._calls.submit(
                    lambda n: m.Submit(n, job, request, request.payload_hash(), self._session, self._base),
                    tell,
                    partial(self._sent.__setitem__, job),
                )
                return
            except UnreachableError as error:
                if not self._may_be_accepted(job):
                    raise
                message = f"{error.message} The daemon may have accepted {job} before."
                remedy = f"{error.remedy} {take_up(job)}".strip()
                raise type(error)(message, remedy, **{**error.details, "job": job}) from error
            except UnknownBlob:
                if not uploads or attempt + 1 == _ATTEMPTS:
                    raise

    async def call_off(self) -> None:
        """Cancel what was accepted, or what is on its way and may be accepted. Raises nothing that the daemon says."""
        self.unsure = [job for job in self.jobs if job in self.accepted or self._may_be_accepted(job)]
        await asyncio.gather(*(self._cancel(job) for job in tuple(self.unsure)))

    def _may_be_accepted(self, job: str) -> bool:
        sent = self._sent.get(job)
        if sent is None or sent.cancelled():
            return False
        return not sent.done() or isinstance(sent.exception(), UnreachableError | None)

    async def _cancel(self, job: str) -> None:
        """Let a SUBMIT arrive first: the daemon works on several requests at once, so CANCEL might overtake it."""
        sent = self._sent.get(job)
        try:
            if sent is not None and job not in self.accepted:
                self.accepted[job] = await sent
            answer: m.Cancelling = await self._calls.ask(lambda n: m.Cancel(n, job), "cancel", insist=True)
        except UnreachableError:
            return
        except QiedError:  # it was refused, so nothing was accepted
            self.unsure.remove(job)
            return
        self.unsure.remove(job)
        (self.finished if answer.state == "succeeded" else self.cancelled).append(job)

    def fate_if_left(self) -> str:
        """What becomes of an edit whose caller has left, in words."""
        going_on = [job for job in self.jobs if job in self.accepted]
        if going_on:
            return f"{_jobs(going_on)} goes on. {take_up(going_on[0])}"
        unsure = [job for job in self.jobs if self._may_be_accepted(job)]
        return f"{_jobs(unsure)} may have been accepted." if unsure else "The daemon had accepted nothing yet."

    def fate(self) -> tuple[str, str]:
        """What became of an edit that was called off, in words: what is so, and what to do."""
        kept = [*self.finished, *self.unsure]
        says = []
        if self.cancelled:
            says.append(f"{_jobs(self.cancelled)} {_was(self.cancelled)} cancelled.")
        if self.finished:
            says.append(f"{_jobs(self.finished)} had just finished.")
        if self.unsure:
            says.append(f"{_jobs(self.unsure)} may go on: the daemon has not answered yet.")
        if not says:
            says.append("The daemon had accepted nothing yet.")
        fetch = take_up(kept[0]) if kept else ""
        return " ".join(says), fetch


def _jobs(names: Sequence[str]) -> str:
    return f"Job {names[0]}" if len(names) == 1 else f"Jobs {', '.join(names)}"


def _was(names: Sequence[str]) -> str:
    return "was" if len(names) == 1 else "were"
