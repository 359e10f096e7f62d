"""The synchronous client: runs the asyncio one in its own thread, so that any thread may call it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from qied_client.aio import AsyncClient, AsyncJob, AsyncSession
from qied_client.aio.calls import WhenFull
from qied_client.batch.mapping import Edits, MapSettings, run_map
from qied_client.batch.run import AT_ONCE, BatchOutcome, OnBatchProgress
from qied_client.credentials import Credential
from qied_client.history import SessionSummary, Turn
from qied_client.inputs import Picture, Pictures
from qied_client.job_status import JobStatus, JobSummary
from qied_client.net.loop_thread import LoopThread
from qied_client.options import EditOptions, shows_options
from qied_client.options.redrawing import RedrawingOptions
from qied_client.protocol import messages as m
from qied_client.results import OnProgress, Progress, Result

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from qied_client.workflows.running import AnyPictures, AnyWorkflow, WorkflowResult


class Job:
    """One accepted edit."""

    def __init__(self, loop: LoopThread, job: AsyncJob) -> None:
        self._loop = loop
        self._job = job
        self.id = job.id
        self.turn = job.turn

    def __repr__(self) -> str:
        return f"<Job {self.id}>" if self.turn is None else f"<Job {self.id}, turn {self.turn}>"

    def events(self) -> Iterator[Progress]:
        """Progress from the beginning to the end; ends when the outcome is there."""
        events = self._job.events()

        async def following() -> Progress | None:
            return await anext(events, None)

        while (progress := self._loop.run(following)) is not None:
            yield progress

    def __iter__(self) -> Iterator[Progress]:
        """The same as ``events()``."""
        return self.events()

    def status(self) -> JobStatus:
        """Ask for everything that the daemon knows of the job; raises UnknownJob."""
        return self._loop.run(self._job.status)

    def thumbnail(self) -> bytes:
        """A small JPEG of the result, at most 256 pixels on its longer side; empty where there is none (yet)."""
        return self._loop.run(self._job.thumbnail)

    def result(self, *, timeout: float | None = None, on_progress: OnProgress | None = None) -> Result:
        """Wait for the outcome and fetch the picture; see ``AsyncJob.result``."""
        return self._loop.run(lambda: self._job.result(timeout=timeout, on_progress=on_progress))

    def outcome(self) -> m.Result:
        """Wait for the outcome, whatever it is."""
        return self._loop.run(self._job.outcome)

    def cancel(self) -> str:
        """Stop the job; returns ``cancelled``, or ``finished`` if it was too late. Idempotent."""
        return self._loop.run(self._job.cancel)

    def release(self, *, keep: bool = False) -> None:
        """Have the daemon delete the result now; with ``keep``, not before your room there is needed."""
        self._loop.run(lambda: self._job.release(keep=keep))


class Session:
    """Several turns on one picture; see ``AsyncSession``. As a ``with`` block it is closed at the block's end."""

    def __init__(self, loop: LoopThread, session: AsyncSession) -> None:
        self._loop = loop
        self._session = session
        self.name = session.name

    def __repr__(self) -> str:
        return f"<Session {self.name!r} at turn {self.head}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.run(lambda: self._session.__aexit__(kind, error, trace))

    @property
    def head(self) -> int:
        """Turn whose result is the latest picture; 0 is the session's first picture."""
        return self._session.head

    @shows_options
    def submit(
        self,
        prompt: str,
        *,
        base: int | None = None,
        references: Pictures = (),
        job_id: str | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> Job:
        """Start a turn that edits the result of turn ``base`` (None: the latest, 0: the first picture)."""
        job = self._loop.run(
            lambda: self._session.submit(
                prompt, base=base, references=references, job_id=job_id, on_progress=on_progress, **options
            )
        )
        return Job(self._loop, job)

    @shows_options
    def edit(
        self,
        prompt: str,
        *,
        base: int | None = None,
        references: Pictures = (),
        job_id: str | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> Result:
        """Do a turn and return its result; see ``AsyncSession.edit``. Ctrl-C cancels it."""
        return self._loop.run(
            lambda: self._session.edit(
                prompt,
                base=base,
                references=references,
                job_id=job_id,
                timeout=timeout,
                on_progress=on_progress,
                **options,
            )
        )

    def undo(self) -> int:
        """Go back to the picture that the latest turn edited; returns the new head. Raises NothingToUndo."""
        return self._loop.run(self._session.undo)

    def redo(self) -> int:
        """Go forward again, to the newest turn that edited the latest picture; see ``AsyncSession.redo``."""
        return self._loop.run(self._session.redo)

    def history(self) -> tuple[Turn, ...]:
        """All turns, the oldest first."""
        return self._loop.run(self._session.history)

    def result(self, turn: int | None = None, *, on_progress: OnProgress | None = None) -> Result:
        """Fetch the picture of a turn (None: the latest, 0: the first one) once more; see ``AsyncSession.result``."""
        return self._loop.run(lambda: self._session.result(turn, on_progress=on_progress))

    def thumbnail(self, turn: int | None = None) -> bytes:
        """A small JPEG of the picture of a turn (None: the latest); see ``AsyncSession.thumbnail``."""
        return self._loop.run(lambda: self._session.thumbnail(turn))

    def close(self) -> None:
        """End the session in the daemon: its pictures may be deleted."""
        self._loop.run(self._session.close)


class Client:
    """Talks to one daemon; without arguments it finds the local one. Arguments as for ``AsyncClient``.

    Calls may come from any thread. Use it in a ``with`` block, or call ``close``.
    """

    def __init__(
        self,
        credential: Credential | Path | str | None = None,
        *,
        address: str | None = None,
        patience: float | None = None,
        when_full: WhenFull = "wait",
    ) -> None:
        self._loop = LoopThread("qied client")
        try:
            self._client = self._loop.run(lambda: self._make(credential, address, patience, when_full))
        except BaseException:
            self._loop.close()
            raise

    @staticmethod
    async def _make(
        credential: Credential | Path | str | None, address: str | None, patience: float | None, when_full: WhenFull
    ) -> AsyncClient:
        client = AsyncClient(credential, address=address, patience=patience, when_full=when_full)
        try:
            await client.connect()
        except BaseException:
            await client.close()
            raise
        return client

    def __repr__(self) -> str:
        return f"<Client {self.welcome.user}, {self.welcome.model}{', closed' if self._loop.closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def welcome(self) -> m.Welcome:
        """The daemon's greeting: model, presets and limits."""
        assert self._client.welcome is not None, "a client is connected once it is made"
        return self._client.welcome

    def close(self) -> None:
        """Close the connection; jobs and sessions in the daemon stay. Idempotent."""
        if not self._loop.closed:
            self._loop.run(self._client.close)
            self._loop.close()

    @overload
    def edit(
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
    def edit(
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
    def edit(
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
        """Edit pictures and return the result, or with ``n`` a list; see ``AsyncClient.edit`` for its errors.

        Ctrl-C cancels the edit.
        """

        async def edited() -> Result | list[Result]:
            return await self._client.edit(
                images, prompt, n=n, job_id=job_id, timeout=timeout, on_progress=on_progress, **options
            )

        return self._loop.run(edited)

    @overload
    def generate(
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
    def generate(
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
    def generate(
        self,
        prompt: str,
        *,
        n: int | None = None,
        job_id: str | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> Result | list[Result]:
        """Make a picture from text alone, where the daemon serves a model that does; see ``AsyncClient.generate``.

        Ctrl-C cancels it.
        """

        async def generated() -> Result | list[Result]:
            return await self._client.generate(
                prompt, n=n, job_id=job_id, timeout=timeout, on_progress=on_progress, **options
            )

        return self._loop.run(generated)

    def upscale(self, picture: Picture, upscaler: str = "2x", **options: Unpack[EditOptions]) -> Result:
        """Enlarge a picture by an upscaling model; see ``AsyncClient.upscale``. Ctrl-C cancels it."""
        return self._loop.run(lambda: self._client.upscale(picture, upscaler, **options))

    @shows_options
    def submit(
        self,
        images: Pictures,
        prompt: str,
        *,
        job_id: str | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> Job:
        """Submit an edit and return once it is on the daemon's disk; see ``AsyncClient.submit``."""
        job = self._loop.run(
            lambda: self._client.submit(images, prompt, job_id=job_id, on_progress=on_progress, **options)
        )
        return Job(self._loop, job)

    def redraw(
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
        """Draw a region of a picture again, and return the picture with it; see ``AsyncClient.redraw``."""
        return self._loop.run(
            lambda: self._client.redraw(
                picture,
                prompt,
                references=references,
                job_id=job_id,
                timeout=timeout,
                on_progress=on_progress,
                **options,
            )
        )

    @shows_options
    def run_recipe(
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
        """Run a recipe as one edit and return its result; see ``AsyncClient.run_recipe``."""
        return self._loop.run(
            lambda: self._client.run_recipe(
                recipe, images, prompt, job_id=job_id, timeout=timeout, on_progress=on_progress, **options
            )
        )

    def run_workflow(
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
        """Run a workflow of ComfyUI; see ``AsyncClient.run_workflow``. Ctrl-C cancels the edit that runs."""
        return self._loop.run(
            lambda: self._client.run_workflow(
                workflow,
                pictures=pictures,
                settings=settings,
                only=only,
                timeout=timeout,
                on_progress=on_progress,
                **options,
            )
        )

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
    ) -> Iterator[BatchOutcome]:
        """Run many edits and yield how each ended, in their order; see ``AsyncClient.map``."""
        settings = MapSettings(prompt, out, count, recipe, batch, at_once, on_progress, options)
        outcomes = run_map(self._client, edits, settings)

        async def following() -> BatchOutcome | None:
            return await anext(outcomes, None)

        try:
            while (outcome := self._loop.run(following)) is not None:
                yield outcome
        finally:
            if not self._loop.closed:
                self._loop.run(outcomes.aclose)

    @shows_options
    def quote(self, images: Pictures, prompt: str, **options: Unpack[EditOptions]) -> m.Quoted:
        """Ask what an edit would cost, without uploading anything; raises what ``edit`` raises."""
        return self._loop.run(lambda: self._client.quote(images, prompt, **options))

    def jobs(self, *, limit: int | None = 50, before: int | None = None) -> list[JobSummary]:
        """Your jobs that the daemon keeps, the newest first; see ``AsyncClient.jobs``."""
        return self._loop.run(lambda: self._client.jobs(limit=limit, before=before))

    def download(self, blob_hash: str, on_progress: OnProgress | None = None) -> bytes:
        """Fetch a blob that this user owns; its hash is checked."""
        return self._loop.run(lambda: self._client.download(blob_hash, on_progress))

    def job(self, job_id: str) -> Job:
        """Attach to an existing job by its id, also to one that has finished; raises UnknownJob."""
        return Job(self._loop, self._loop.run(lambda: self._client.job(job_id)))

    def session(self, image: Picture, *, name: str | None = None, on_progress: OnProgress | None = None) -> Session:
        """Open a session on a picture; the same ``name`` and picture again is the same session.

        In a ``with`` block it is closed at the end; otherwise it stays open, also after the program has ended.
        """

        async def opened() -> AsyncSession:
            return await self._client.session(image, name=name, on_progress=on_progress)

        return Session(self._loop, self._loop.run(opened))

    def take_up_session(self, name: str) -> Session:
        """Attach to an existing session by its name; raises UnknownSession."""
        return Session(self._loop, self._loop.run(lambda: self._client.take_up_session(name)))

    def sessions(self) -> tuple[SessionSummary, ...]:
        """One's own open sessions, the last used one first; see ``AsyncClient.sessions``."""
        return self._loop.run(self._client.sessions)

    def describe(self) -> m.Description:
        """What this daemon serves: model, precision, presets, limits; see ``AsyncClient.describe``."""
        return self._loop.run(self._client.describe)

    def plans(self) -> list[dict[str, Any]]:
        """How the daemon's workers run the model; see ``AsyncClient.plans``."""
        return self._loop.run(self._client.plans)

    def metrics(self) -> str:
        """The daemon's figures as text for Prometheus; see ``AsyncClient.metrics``."""
        return self._loop.run(self._client.metrics)

    def loras(self) -> tuple[m.LoraInfo, ...]:
        """The daemon's LoRAs by the names that ``loras`` takes; see ``AsyncClient.loras``."""
        return self._loop.run(self._client.loras)

    def upscalers(self) -> tuple[m.UpscalerInfo, ...]:
        """The daemon's upscaling models by the names that ``upscale`` takes; see ``AsyncClient.upscalers``."""
        return self._loop.run(self._client.upscalers)

    def cancel(self, job_id: str, *, user: str | None = None) -> str:
        """Stop a job, one's own or, for the owner, that of ``user``; see ``AsyncClient.cancel``."""
        return self._loop.run(lambda: self._client.cancel(job_id, user=user))

    def release(self, job_id: str, *, keep: bool = False) -> None:
        """Have the daemon delete a job's result now; with ``keep``, not before your room there is needed."""
        self._loop.run(lambda: self._client.release(job_id, keep=keep))

    def status(self, *, everyone: bool = False) -> m.StatusReport:
        """What the daemon is doing; ``everyone``: with the ids of all users' jobs, which only the owner may see."""
        return self._loop.run(lambda: self._client.status(everyone=everyone))

    def control(self, action: str) -> m.Controlled:
        """Give the daemon an order of its machine's owner; see ``AsyncClient.control``."""
        return self._loop.run(lambda: self._client.control(action))
