"""The asyncio client: edits, jobs and sessions over one connection."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, get_args, overload

from qied_client.aio.calls import Calls, WhenFull
from qied_client.aio.daemon_calls import DaemonCalls
from qied_client.aio.editing import Editing
from qied_client.aio.following import Following
from qied_client.aio.job import AsyncJob
from qied_client.aio.listener import Listener, Tell
from qied_client.aio.other_pictures import OtherPictures
from qied_client.aio.session import AsyncSession, SessionOpening
from qied_client.aio.submission import Submission
from qied_client.aio.uploads import PictureUpload
from qied_client.batch.mapping import Edits, MapSettings, run_map, with_recipe
from qied_client.batch.run import AT_ONCE, BatchOutcome, OnBatchProgress
from qied_client.connection import Connection
from qied_client.credentials import Credential, find_credential
from qied_client.errors import InvalidRequest
from qied_client.history import SessionSummary
from qied_client.inputs import Picture, Pictures, sequence
from qied_client.job_status import JobSummary
from qied_client.net.bridge import Bridge
from qied_client.net.driver import Driver
from qied_client.net.loop_thread import watches_sockets
from qied_client.net.transport import Endpoint
from qied_client.options import EditOptions, edit_request, shows_options
from qied_client.options.redrawing import RedrawingOptions, redrawing
from qied_client.options.redraws import given_redraws
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.request import UPSCALING, EditRequest
from qied_client.protocol.roles import FROM_DAEMON
from qied_client.results import OnProgress, Result
from qied_client.transfers import hash_of
from qied_client.version import __version__

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from qied_client.workflows.running import AnyPictures, AnyWorkflow, WorkflowResult

_PATIENCE_S = 60.0
_FIRST_PATIENCE_S = 15.0
"""The same where no daemon has ever answered."""
_MOST_RESULTS = 64


def new_id(prefix: str) -> str:
    """Make an id for a job or session that no other one has."""
    return f"{prefix}-{secrets.token_hex(10)}"


def seed_of(job_id: str) -> int:
    """The seed of a job for which none is asked: of its id, so that the same command again is the same job."""
    return int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:4], "big") >> 1


class AsyncClient(DaemonCalls):
    """Talks to one daemon. Without arguments it finds the local one's key file; see ``credentials``.

    ``credential`` is a key file or its content, ``address`` overrides the address in it. ``patience`` is how many
    seconds calls wait through a daemon that is down, or stops, before they fail. By default they wait 60 s, but 15 s
    where no daemon has ever answered.

    Any number of edits may be asked for at once: at most 8 of them are prepared at a time, and what the daemon has no
    room for waits for it, in order. ``when_full="fail"`` is for programs that tell their own callers to come back: then
    a refusal for lack of room is raised at once, as a CapacityError. What was accepted waits all the same.

    ``speaks_for`` is the enrolled user whose jobs and limits these are, where the key is a gateway's or the owner's;
    without that right the calls raise NotPermitted.
    """

    def __init__(
        self,
        credential: Credential | Path | str | None = None,
        *,
        address: str | None = None,
        patience: float | None = None,
        when_full: WhenFull = "wait",
        speaks_for: str | None = None,
    ) -> None:
        if when_full not in get_args(WhenFull):
            raise InvalidRequest(f"when_full: {when_full!r} is neither 'wait' nor 'fail'.", "Use one of them.")
        self._credential = credential
        self._address = address
        self._speaks_for = speaks_for
        self._patience_s = _PATIENCE_S if patience is None else patience
        self._first_patience_s = _FIRST_PATIENCE_S if patience is None else patience
        self._made: Driver | Bridge | None = None
        self._calls = Calls(lambda: self._driver, when_full, self._patience_s)
        self._following = Following(self._calls, partial(AsyncJob, self))
        self._editing = Editing(self._calls, self._following)

    def __repr__(self) -> str:
        greeted = self.welcome
        return f"<AsyncClient {greeted.user}, {greeted.model}>" if greeted else "<AsyncClient, not connected>"

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def welcome(self) -> m.Welcome | None:
        """The daemon's latest greeting: model, presets and limits; None before the first one."""
        return self._calls.welcome

    async def connect(self) -> m.Welcome:
        """Connect and return the daemon's greeting with its limits; raises UnreachableError and its kinds."""
        return await self._calls.start()

    async def close(self) -> None:
        """Close the connection; jobs and sessions in the daemon stay."""
        await self._editing.close()
        await self._driver.close()

    @overload
    async def edit(
        self,
        images: Pictures,
        prompt: str,
        *,
        n: None = None,
        job_id: str | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> Result: ...

    @overload
    async def edit(
        self,
        images: Pictures,
        prompt: str,
        *,
        n: int,
        job_id: str | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> list[Result]: ...

    @shows_options
    async def edit(
        self,
        images: Pictures,
        prompt: str,
        *,
        n: int | None = None,
        job_id: str | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> Result | list[Result]:
        """Edit pictures and return the result. The daemon keeps it for a while once its bytes are here.

        With ``n``, so many results of the seeds ``seed``, ``seed + 1`` and so on, as a list: all of them, or an error
        that names the job which failed and those whose pictures the daemon keeps. Their jobs are ``job_id-1``,
        ``job_id-2`` and so on.

        ``timeout`` is in seconds and covers everything, uploads too. When it is over, the edit is cancelled, as it is
        when the task is cancelled.

        Raises UnknownOption, InvalidRequest, PictureError, AboveCap, CapacityError, JobError, UnreachableError and
        RequestTimeout.
        """
        submission = self._submission(sequence(images), prompt, options, job_id=job_id, n=n)
        results = await self._editing.carry_out(submission, timeout, on_progress, named_by_caller=job_id is not None)
        return results[0] if n is None else results

    @overload
    async def generate(
        self,
        prompt: str,
        *,
        n: None = None,
        job_id: str | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> Result: ...

    @overload
    async def generate(
        self,
        prompt: str,
        *,
        n: int,
        job_id: str | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> list[Result]: ...

    @shows_options
    async def generate(
        self,
        prompt: str,
        *,
        n: int | None = None,
        job_id: str | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> Result | list[Result]:
        """Make a picture from text alone, where the daemon serves a model that does.

        The same as ``edit`` without pictures, in everything else too; a model that edits refuses it with
        InvalidRequest.
        """
        submission = self._submission((), prompt, options, job_id=job_id, n=n)
        results = await self._editing.carry_out(submission, timeout, on_progress, named_by_caller=job_id is not None)
        return results[0] if n is None else results

    async def redraw(
        self,
        picture: Picture,
        prompt: str,
        *,
        references: Pictures | None = None,
        job_id: str | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[RedrawingOptions],
    ) -> Result:
        """Draw a region of a picture again, or all of it, and return the picture with that.

        ``box`` or ``mask`` say where; outside of it every pixel stays as it is. ``strength`` is how much is new. The
        prompt says what the ``references`` are edited to, so those of the edit that made the picture suit with its
        prompt; without them, the picture is edited itself. Other options are those of ``edit``. Raises what that does.
        """
        submission = self._submission(*redrawing(picture, prompt, references, options), job_id=job_id)
        results = await self._editing.carry_out(submission, timeout, on_progress, named_by_caller=job_id is not None)
        return results[0]

    async def upscale(self, picture: Picture, upscaler: str = "2x", **options: Unpack[EditOptions]) -> Result:
        """Enlarge a picture by an upscaling model of the daemon: its name, or the scale of one such as ``2x``.

        Nothing else is done to it, so of the options only those of the output count. Raises what ``edit`` does.
        """
        options["task"], options["upscale"] = "upscale", upscaler
        return await self.edit(picture, UPSCALING, **options)

    @shows_options
    async def submit(
        self,
        images: Pictures,
        prompt: str,
        *,
        job_id: str | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> AsyncJob:
        """Submit an edit and return once it is on the daemon's disk; the same ``job_id`` again is the same job.

        A job that has finished is taken up as well: ``result()`` fetches its picture again, as long as it is kept.
        ``on_progress`` hears of the upload, and of waiting for the daemon's room.
        """
        submission = self._submission(sequence(images), prompt, options, job_id=job_id)
        return await self._editing.hand_in(submission, on_progress)

    @shows_options
    async def run_recipe(
        self,
        recipe: str,
        images: Pictures,
        prompt: str = "",
        *,
        job_id: str | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> Result:
        """Run a recipe, by its name or file, as one edit and return its result; options go before the recipe's own.

        Raises InvalidRequest for a recipe that is wrong or has a stage that is not there, and what ``edit`` raises.
        """
        chosen, text = await with_recipe(self, recipe, options, prompt, saves=True)
        result: Result = await self.edit(
            images, text, job_id=job_id, timeout=timeout, on_progress=on_progress, **chosen
        )
        return result

    async def run_workflow(
        self,
        workflow: AnyWorkflow,
        *,
        pictures: AnyPictures | None = None,
        settings: Mapping[str, Any] | None = None,
        only: Collection[str] = (),
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> list[WorkflowResult]:
        """Run a workflow of ComfyUI, and return what each node that saves a picture got, in the order of the nodes.

        ``workflow`` is a file, JSON or a picture that carries one, or what JSON gives. ``pictures`` says where those of
        its nodes are: folders, a mapping by name, or a callable; by default the folder of the file. ``settings`` are
        inputs to set, such as ``{"12.seed": 7}``; ``only`` are ids of save nodes. ``timeout`` is in seconds. Options go
        before those of the workflow.

        Raises WorkflowRefused where nodes cannot be run here, with each of them as ``problems``, InvalidRequest, and
        what ``edit`` raises.
        """
        from qied_client.workflows.running import run_workflow  # most programs have no use for it

        return await run_workflow(self, workflow, pictures, settings or {}, only, timeout, on_progress, options)

    @shows_options
    def map(
        self,
        edits: Edits,
        prompt: str = "",
        *,
        out: str | Sequence[str] = (),
        count: int = 1,
        recipe: str | None = None,
        batch: str | None = None,
        at_once: int = AT_ONCE,
        on_progress: OnBatchProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> AsyncIterator[BatchOutcome]:
        """Run many edits and yield how each ended, in their order: a failure is an outcome with an ``error``.

        ``edits`` may be endless: it is read a few ahead, and ``at_once`` edits (1 to 64) are under way at a time. Each
        is a picture, or a mapping with ``picture``, ``prompt``, ``mask``, ``name`` and options of its own; or ``edits``
        is the name of a folder, a pattern or a manifest, of which all problems are told before anything runs.
        ``count``: so many variations of each. ``recipe``: a recipe's name or file.

        With ``out``, one name or several such as ``out/{stem}.png``, results are saved, and what is done is noted next
        to them: the same call again, also after a kill, does only what is missing. Without it, results have their
        bytes, and with ``batch``, an id of at most 32 characters, the same call fetches what the daemon has kept. Edits
        are preemptible unless the options say otherwise.

        Raises UnreachableError once the client's patience ends, InvalidRequest for rows that are wrong.
        """
        settings = MapSettings(prompt, out, count, recipe, batch, at_once, on_progress, options)
        return run_map(self, edits, settings)

    @shows_options
    async def quote(self, images: Pictures, prompt: str, **options: Unpack[EditOptions]) -> m.Quoted:
        """Ask what an edit would cost, without uploading anything; raises what ``edit`` raises."""
        request = edit_request(prompt, 0, options)
        uploads = [await asyncio.to_thread(PictureUpload, picture) for picture in sequence(images)]
        others = await _others(options).uploads()
        request = others.named_in(replace(request, images=tuple(upload.hash for upload in uploads))).validated()
        return await self._quoted(request, tuple(upload.size for upload in uploads), others.canvas_size)

    @shows_options
    async def quote_sizes(
        self,
        sizes: Sequence[tuple[int, int]],
        *,
        canvas_size: tuple[int, int] | None = None,
        **options: Unpack[EditOptions],
    ) -> m.Quoted:
        """Ask what an edit of pictures of these sizes (width and height in pixels) would cost, without any picture.

        ``canvas_size`` stands for a canvas.
        """
        nothing = hash_of(b"")
        canvas = None if canvas_size is None else nothing
        request = replace(edit_request("a prompt", 0, options), images=(nothing,) * len(sizes), canvas=canvas)
        shown = tuple(m.ImageSize(width, height) for width, height in sizes)
        return await self._quoted(
            request.validated(), shown, None if canvas_size is None else m.ImageSize(*canvas_size)
        )

    async def jobs(self, *, limit: int | None = 50, before: int | None = None) -> list[JobSummary]:
        """Your jobs that the daemon keeps, the newest first: at most ``limit``, None for all of them.

        ``before``: only those with a ``number`` below it, for the next part of a long list.
        """
        found: list[JobSummary] = []
        more = True
        while more and (limit is None or len(found) < limit):
            page: m.JobList = await self._ask_second_version(partial(_list_jobs, before), "list of jobs")
            found += map(JobSummary.of_info, page.jobs)
            more = page.more and bool(page.jobs)
            before = found[-1].number if found else None
        return found[:limit]

    async def job(self, job_id: str) -> AsyncJob:
        """Attach to an existing job by its id, also to one that has finished; raises UnknownJob."""
        return await self._following.follow(job_id, None)

    def session(
        self, image: Picture, *, name: str | None = None, on_progress: OnProgress | None = None
    ) -> SessionOpening:
        """Open a session on a picture; the same ``name`` and picture again is the same session.

        Await it for a session that stays open, or use it in ``async with``, which closes the session at the end.
        Raises SessionConflict if the name is that of a session on another picture.
        """
        return SessionOpening(self._open(image, name, on_progress))

    async def take_up_session(self, name: str) -> AsyncSession:
        """Attach to an existing session by its name; raises UnknownSession."""
        return AsyncSession(self, await self._ask(lambda n: m.History(n, name)))

    async def sessions(self) -> tuple[SessionSummary, ...]:
        """The user's own open sessions, the last used one first. Raises VersionMismatch if the daemon is older."""
        page = await self._session_page(None)
        rows = [*page.sessions]
        while page.more and page.sessions:
            page = await self._session_page(rows[-1].session)
            rows += page.sessions
        return tuple(SessionSummary.of(row) for row in sorted(rows, key=lambda row: -row.used_ms))

    async def cancel(self, job_id: str, *, user: str | None = None) -> str:
        """Stop a job; returns ``cancelled``, or ``finished`` where it was too late. Raises UnknownJob.

        The owner of the daemon's machine may name another ``user``, whose job it is; others get NotPermitted.
        """
        answer: m.Cancelling = await self._ask(lambda n: m.Cancel(n, job_id, user))
        return answer.answer

    async def release(self, job_id: str, *, keep: bool = False) -> None:
        """Have the daemon delete a job's result now; with ``keep``, not before your room there is needed.

        A daemon of version 1 cannot do the latter: it is not told, and keeps the result until it expires.
        """
        if not keep or self._editing.keeps_released:
            await self._ask(lambda n: m.Release(n, job_id, keep))
        self._following.drop(job_id)

    async def download(self, blob_hash: str, on_progress: OnProgress | None = None) -> bytes:
        """Fetch a blob that this user owns; its hash is checked."""
        listener = Listener(on_progress)
        return await listener.during(self._download(blob_hash, listener))

    @property
    def _driver(self) -> Driver | Bridge:
        """Created on first use: only then is the event loop known."""
        if self._made is None:
            kind = Driver if watches_sockets(asyncio.get_running_loop()) else Bridge
            self._made = kind(
                self._connection(),
                self._endpoint,
                self._following.pushed,
                self._following.failed,
                self._patience_s,
                first_patience_s=self._first_patience_s,
                on_absence=self._following.absence,
            )
        return self._made

    def _connection(self) -> Connection:
        return Connection(self._greeting, m.Welcome, FROM_DAEMON)

    async def _open(self, image: Picture, name: str | None, on_progress: OnProgress | None) -> AsyncSession:
        listener = Listener(on_progress)
        upload = await asyncio.to_thread(PictureUpload, image)
        await listener.during(self._calls.upload(upload, listener))
        session = new_id("session") if name is None else name
        return AsyncSession(self, await self._ask(lambda n: m.Open(n, session, upload.hash)))

    async def _session_page(self, after: str | None) -> m.SessionList:
        page: m.SessionList = await self._ask_second_version(lambda n: m.ListSessions(n, after), "list of sessions")
        return page

    async def _quoted(
        self, request: EditRequest, sizes: tuple[m.ImageSize, ...], canvas: m.ImageSize | None
    ) -> m.Quoted:
        quoted: m.Quoted = await self._calls.ask(lambda n: m.Quote(n, request, sizes, canvas), "quote")
        return quoted

    async def _fetch(self, job_id: str, *, thumbnail: bool = False) -> m.Fetched:
        fetched: m.Fetched = await self._ask_second_version(lambda n: m.Fetch(n, job_id, thumbnail), "FETCH")
        return fetched

    async def _download(self, blob_hash: str, tell: Tell) -> bytes:
        with self._following.told(tell):
            return await self._calls.download(blob_hash, tell)

    # Handing in

    def _submission(
        self,
        pictures: Sequence[Picture],
        prompt: str,
        options: EditOptions,
        *,
        job_id: str | None = None,
        n: int | None = None,
        session: str | None = None,
        base: int | None = None,
    ) -> Submission:
        name = job_id or new_id("job")
        request = edit_request(prompt, seed_of(name), options)
        jobs = [name] if n is None else [f"{name}-{number + 1}" for number in range(_checked_count(n))]
        return Submission(self._calls, pictures, request, jobs, _others(options), session=session, base=base)

    def _greeting(self, identifier: int) -> m.Hello:
        return m.Hello(identifier, limits.MIN_VERSION, limits.VERSION, f"qied-client {__version__}", self._speaks_for)

    def _endpoint(self) -> Endpoint:
        """Read the key file again for each attempt: a restarted daemon may listen elsewhere."""
        credential = self._credential
        if not isinstance(credential, Credential):
            credential = find_credential(os.environ, None if credential is None else Path(credential))
        return Endpoint(
            self._address or credential.endpoint,
            credential.server_key,
            credential.public_key,
            credential.secret_key,
        )


def _others(options: EditOptions) -> OtherPictures:
    passes = given_redraws(options.get("redraw"))
    masks = tuple(each.mask_of(options.get("mask"), f"redraw[{number}]") for number, each in enumerate(passes))
    return OtherPictures(options.get("mask"), options.get("canvas"), masks)


def _list_jobs(before: int | None, identifier: int) -> m.ListJobs:
    return m.ListJobs(identifier, before)


def _checked_count(n: int) -> int:
    if type(n) is not int or not 1 <= n <= _MOST_RESULTS:
        raise InvalidRequest(
            f"n: must be a whole number from 1 to {_MOST_RESULTS}, not {n!r}.", "Correct it.", field="n"
        )
    return n
