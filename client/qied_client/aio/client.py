"""The asyncio client: edits, jobs and sessions over one connection."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qied_client.aio.job import AsyncJob, named
from qied_client.aio.session import AsyncSession, SessionOpening
from qied_client.connection import Connection
from qied_client.credentials import Credential, find_credential
from qied_client.errors import QiedError, RequestTimeout, UnreachableError, VersionMismatch
from qied_client.history import SessionSummary
from qied_client.inputs import Picture, Pictures, picture_bytes
from qied_client.net.bridge import Bridge
from qied_client.net.driver import Driver
from qied_client.net.loop_thread import watches_sockets
from qied_client.net.transport import Endpoint
from qied_client.picture_header import PictureLimits, read_header
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.request import EditRequest, LoraChoice
from qied_client.protocol.roles import FROM_DAEMON
from qied_client.results import OnProgress, Progress, Result
from qied_client.transfers import hash_of
from qied_client.version import __version__

_RELEASE_S = 1.0
"""How long closing waits for results to be released; if the daemon is down, they expire by themselves."""
_TAKE_UP = "Fetch its picture with client.job({job!r}).result()."


@dataclass(frozen=True)
class _Upload:
    """One picture ready to travel."""

    hash: str
    data: bytes
    size: m.ImageSize

    @classmethod
    def of(cls, picture: Picture) -> _Upload:
        data = picture_bytes(picture)
        width, height = read_header(BytesIO(data), PictureLimits()).displayed_size
        return cls(hash_of(data), data, m.ImageSize(width, height))


def new_id(prefix: str) -> str:
    """Make an id for a job or session that no other one has."""
    return f"{prefix}-{secrets.token_hex(10)}"


def seed_of(job_id: str) -> int:
    """The seed of a job for which none is asked: of its id, so that the same command again is the same job."""
    return int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:4]) >> 1


def request_of(
    prompt: str,
    *,
    seed: int | None = None,
    loras: Sequence[str | tuple[str, float]] = (),
    **options: Any,
) -> EditRequest:
    """Build a checked request without its images; without a seed, one is drawn. Raises InvalidRequest."""
    choices = tuple(LoraChoice(lora) if isinstance(lora, str) else LoraChoice(*lora) for lora in loras)
    drawn = secrets.randbelow(2**31) if seed is None else seed
    return EditRequest((), prompt, drawn, loras=choices, **options).validated()


class AsyncClient:
    """Talks to one daemon. Without arguments it finds the local one's key file; see ``credentials``.

    ``credential`` is a key file or its content, ``address`` overrides the address in it, ``patience`` is how many
    seconds calls wait through a daemon that is down before they fail.
    """

    def __init__(
        self,
        credential: Credential | Path | str | None = None,
        *,
        address: str | None = None,
        patience: float = 15.0,
    ) -> None:
        self._credential = credential
        self._address = address
        self._jobs: dict[str, AsyncJob] = {}
        self._patience = patience
        self._made: Driver | Bridge | None = None
        self._releasing: set[asyncio.Task[None]] = set()
        self.welcome: m.Welcome | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> m.Welcome:
        """Connect and return the daemon's greeting with its limits; raises UnreachableError and its kinds."""
        welcome = await self._driver.start()
        assert isinstance(welcome, m.Welcome)
        self.welcome = welcome
        return welcome

    async def close(self) -> None:
        """Close the connection; jobs and sessions in the daemon stay."""
        if self._releasing:
            await asyncio.wait(self._releasing, timeout=_RELEASE_S)
        await self._driver.close()

    async def edit(
        self,
        images: Pictures,
        prompt: str,
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Any,
    ) -> Result:
        """Edit pictures and return the result; the daemon forgets it once its bytes are here.

        ``timeout`` is in seconds and covers everything, uploads too.

        ``options`` are the fields of ``EditRequest``: negative_prompt, seed, steps, true_cfg_scale, width, height,
        preset, precision, loras, mask (a picture, white where to edit), on_cap, output_format, previews, priority.
        Raises InvalidRequest, PictureError, AboveCap, CapacityError, JobError, UnreachableError and RequestTimeout.
        """
        job: AsyncJob | None = None
        try:
            async with asyncio.timeout(timeout):
                job = await self.submit(images, prompt, on_progress=on_progress, **options)
                result = await self._finish(job, None, on_progress)
        except TimeoutError:
            late = RequestTimeout(f"The edit did not finish within {timeout:g} s.", "If it was accepted, it continues.")
            raise (late if job is None else named(late, job.id, _TAKE_UP.format(job=job.id))) from None
        except UnreachableError as error:
            if job is None:
                raise
            raise named(error, job.id, _TAKE_UP.format(job=job.id)) from error
        self._release_later(job)
        return result

    async def submit(self, images: Pictures, prompt: str, *, job_id: str | None = None, **options: Any) -> AsyncJob:
        """Submit an edit and return once it is on the daemon's disk; the same ``job_id`` again is the same job."""
        return await self._submit(_sequence(images), prompt, job_id=job_id, session=None, base=None, **options)

    async def quote(self, images: Pictures, prompt: str, *, mask: Picture | None = None, **options: Any) -> m.Quoted:
        """Ask what an edit would cost, without uploading anything."""
        uploads = [await asyncio.to_thread(_Upload.of, picture) for picture in _sequence(images)]
        request = replace(request_of(prompt, **options), images=tuple(upload.hash for upload in uploads))
        if mask is not None:
            request = replace(request, mask=hash_of(picture_bytes(mask)))
        return await self._quote(request, uploads)

    async def job(self, job_id: str) -> AsyncJob:
        """Attach to an existing job by its id; raises UnknownJob."""
        return await self._follow(job_id, None)

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

    async def release(self, job_id: str) -> None:
        """Tell the daemon that a job's result may be deleted."""
        await self._ask(lambda n: m.Release(n, job_id))
        self._jobs.pop(job_id, None)

    async def status(self, *, everyone: bool = False) -> m.StatusReport:
        """What the daemon is doing; ``everyone``: with the ids of all users' jobs, which only the owner may see."""
        report: m.StatusReport = await self._ask(lambda n: m.Status(n, everyone))
        return report

    async def control(self, action: str) -> m.Controlled:
        """Give the daemon an order of its machine's owner: one of ``messages.CONTROLS``.

        Raises NotPermitted with any other key than the daemon's local one, Busy where jobs are in the way.
        """
        answer: m.Controlled = await self._ask(lambda n: m.Control(n, action))
        return answer

    async def download(self, blob_hash: str, on_progress: OnProgress | None = None) -> bytes:
        """Fetch a blob that this user owns; its hash is checked."""
        move = None if on_progress is None else lambda done, total: on_progress(Progress("download", done, total))
        return await self._driver.download(blob_hash, move)

    @property
    def _driver(self) -> Driver | Bridge:
        """Created on first use: only then is the event loop known."""
        if self._made is None:
            kind = Driver if watches_sockets(asyncio.get_running_loop()) else Bridge
            self._made = kind(self._connection(), self._endpoint, self._pushed, self._failed, self._patience)
        return self._made

    def _connection(self) -> Connection:
        return Connection(self._greeting, m.Welcome, FROM_DAEMON)

    async def _ask(self, make: Callable[[int], m.Message]) -> Any:
        await self._driver.start()
        return await self._driver.ask(make)

    async def _ask_second_version(self, make: Callable[[int], m.Message], what: str) -> Any:
        """Ask what daemons of version 1 do not know; they would take it for an error of the connection."""
        if (await self.connect()).version < 2:
            raise VersionMismatch(
                f"This daemon speaks version 1 of the protocol, which has no {what}.", "Update the daemon."
            )
        return await self._ask(make)

    async def _open(self, image: Picture, name: str | None, on_progress: OnProgress | None) -> AsyncSession:
        upload = await asyncio.to_thread(_Upload.of, image)
        await self._upload(upload, on_progress)
        session = new_id("session") if name is None else name
        return AsyncSession(self, await self._ask(lambda n: m.Open(n, session, upload.hash)))

    async def _session_page(self, after: str | None) -> m.SessionList:
        page: m.SessionList = await self._ask_second_version(lambda n: m.ListSessions(n, after), "list of sessions")
        return page

    async def _quote(self, request: EditRequest, uploads: Sequence[_Upload]) -> m.Quoted:
        sizes = tuple(upload.size for upload in uploads)
        quoted: m.Quoted = await self._ask(lambda n: m.Quote(n, request, sizes))
        return quoted

    async def _submit(
        self,
        pictures: Sequence[Picture],
        prompt: str,
        *,
        job_id: str | None,
        session: str | None,
        base: int | None,
        mask: Picture | None = None,
        on_progress: OnProgress | None = None,
        **options: Any,
    ) -> AsyncJob:
        name = job_id or new_id("job")
        seed = options.pop("seed", None)
        request = request_of(prompt, seed=seed_of(name) if seed is None else seed, **options)
        uploads = [await asyncio.to_thread(_Upload.of, picture) for picture in pictures]
        masks = [] if mask is None else [await asyncio.to_thread(_Upload.of, mask)]
        request = replace(
            request,
            images=tuple(upload.hash for upload in uploads),
            mask=masks[0].hash if masks else None,
        ).validated()
        if uploads:
            await self._quote(request, uploads)
        for upload in (*uploads, *masks):
            await self._upload(upload, on_progress)
        accepted: m.Accepted = await self._ask(
            lambda n: m.Submit(n, name, request, request.payload_hash(), session, base)
        )
        return await self._follow(name, accepted.turn)

    async def _upload(self, upload: _Upload, on_progress: OnProgress | None) -> None:
        move = None if on_progress is None else lambda done, total: on_progress(Progress("upload", done, total))
        await self._driver.upload(upload.hash, memoryview(upload.data), move)

    async def _follow(self, job_id: str, turn: int | None) -> AsyncJob:
        job = self._jobs.get(job_id)
        if job is None:
            job = self._jobs[job_id] = AsyncJob(self, job_id, turn)
            job._taken_up = asyncio.create_task(self._take_up(job), name=f"take up {job_id}")
            job._taken_up.add_done_callback(lambda task: task.cancelled() or task.exception())
        assert job._taken_up is not None, "a job in the table is being taken up"
        await asyncio.shield(job._taken_up)
        return job

    async def _take_up(self, job: AsyncJob) -> None:
        """Follow a job in one task for all waiters, so that one that gives up does not affect the others."""
        try:
            await self._driver.start()
            await self._driver.follow(job.id)
        except QiedError:
            if self._jobs.get(job.id) is job:
                del self._jobs[job.id]
            raise

    async def _finish(self, job: AsyncJob, timeout: float | None, on_progress: OnProgress | None) -> Result:
        async def report() -> None:
            assert on_progress is not None
            async for progress in job.events():
                on_progress(progress)

        if on_progress is None:
            return await job.result(timeout=timeout)
        reporting = asyncio.ensure_future(report())
        try:
            result = await job.result(timeout=timeout, on_progress=on_progress)
            await reporting
            return result
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)

    def _release_later(self, job: AsyncJob) -> None:
        """Nothing waits for this; if it fails, the result expires by itself."""

        async def release() -> None:
            with suppress(QiedError):
                await job.release()

        task = asyncio.create_task(release())
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    def _pushed(self, message: m.Message) -> None:
        if isinstance(message, (m.Event, m.Result)) and message.job in self._jobs:
            self._jobs[message.job]._push(message)
            if isinstance(message, m.Result):
                self._jobs.pop(message.job)

    def _failed(self, error: QiedError) -> None:
        for job in self._jobs.values():
            job._fail(error)
            self._driver.unfollow(job.id)
        self._jobs.clear()

    def _greeting(self, identifier: int) -> m.Hello:
        return m.Hello(identifier, limits.MIN_VERSION, limits.VERSION, f"qied-client {__version__}")

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


def _sequence(pictures: Pictures) -> list[Picture]:
    return list(pictures) if isinstance(pictures, (list, tuple)) else [pictures]  # type: ignore[list-item]
