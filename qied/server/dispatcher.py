"""Carries out the pure scheduler's actions and feeds it events: the only place where the two meet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

import structlog
from qied_client.errors import DependencyFailed, JobCancelled, JobSetAside, JobUnreadable, QiedError, ShuttingDown

from qied.edit import EditSpec
from qied.link import messages as w
from qied.metrics.figures import Figures
from qied.planning.requests.pace import Pace
from qied.planning.requests.serving import Serving
from qied.scheduling import model as s
from qied.scheduling.scheduler import Scheduler
from qied.scheduling.view import SchedulerView
from qied.server.blobs.ownership import Ownership
from qied.server.clock import now_ms
from qied.server.disk_failures import PASSING
from qied.server.jobs import Job, JobBook
from qied.server.journal.changes import (
    Change,
    CountDeath,
    MarkRunning,
    OutcomeState,
    OwnBlob,
    StoreNote,
    StoreOutcome,
)
from qied.server.journal.journal import Journal
from qied.server.journal.stored_edit import pack_measured
from qied.server.machine_downs import MOST_DOWNS, PATIENT_KILLS
from qied.server.sessions import SessionBook

_WHY_WAITING: dict[s.WaitReason, str] = {
    "": "",
    "paused": "paused by the owner",
    "loading": "loading the model",
    "late": "waiting to load the model",
}
_RETRY_S = 1.0
_SETTLE_S = 5.0
_SUBMIT_ANEW = "Submit the edit again under a new id, or start the version of qied that accepted it."


class Orders(Protocol):
    """The workers as the dispatcher needs them."""

    def begin(self, worker: str, order: w.Begin) -> None:
        """Have a worker begin an edit."""

    def stop(self, worker: str, order: w.StopEdit) -> None:
        """Have a worker drop an edit."""

    def unload(self, worker: str) -> None:
        """End a worker's process until it is wanted again."""

    def load(self, worker: str) -> None:
        """Start the process of a worker that was unloaded."""


class Dispatcher:
    """Jobs from acceptance to their outcome. Runs on the event loop alone, so it needs no locks."""

    def __init__(
        self,
        scheduler: Scheduler,
        journal: Journal,
        jobs: JobBook,
        sessions: SessionBook,
        ownership: Ownership,
        serving: Serving,
        figures: Figures,
        boot: str = "",
    ) -> None:
        self._log = structlog.get_logger(part="dispatcher")
        self._precision = serving.precision
        self._scheduler = scheduler
        self._journal = journal
        self._jobs = jobs
        self._sessions = sessions
        self._ownership = ownership
        self._serving = serving
        self._figures = figures
        self._background: set[asyncio.Task[object]] = set()
        self._orders: Orders | None = None
        self._why_waiting: s.WaitReason = ""
        self.broken: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._boot = boot
        self._trouble = ""
        self._ending: set[s.JobKey] = set()
        self.pace = Pace(serving)

    def use(self, orders: Orders) -> None:
        """Set the carrier of orders to the workers."""
        self._orders = orders

    def cost(self, spec: EditSpec) -> s.JobCost:
        """Bytes and milliseconds of an edit."""
        (_, first), *others = self._serving.footprints(spec).items()
        elsewhere = tuple((kind, foot.state, foot.arena) for kind, foot in others)
        return s.JobCost(first.state, first.arena, self.pace.edit_ms(spec), elsewhere)

    def refusal(self, user: str, spec: EditSpec, accepting: Mapping[str, int]) -> QiedError | None:
        """Why the queue takes no such job of this user now, or None.

        ``accepting`` counts, by user, the jobs that were let through before and are not submitted yet.
        """
        return self._scheduler.check_admission(user, self.cost(spec), accepting)

    def view(self) -> SchedulerView:
        """The scheduler's state, for people."""
        return self._scheduler.snapshot()

    def submit(self, *jobs: Job) -> None:
        """Queue jobs that are in the journal, in the order given."""
        for job in jobs:
            job.queued_ms = now_ms()
        events = [event for job in jobs if (event := self._submission(job)) is not None]
        for action in self._scheduler.handle_all(events, now_ms()):
            self._perform(action)

    def _submission(self, job: Job) -> s.Submitted | None:
        """The job as the scheduler sees it; None, and an outcome, where it is set aside or cannot be had any more."""
        if job.unreadable is not None:
            message = f"The daemon cannot read this job any more: {job.unreadable}."[:500]
            self._spawn(self._conclude(s.Conclude(job.key, "failed", JobUnreadable.code, message, _SUBMIT_ANEW)))
            return None
        if job.downs >= MOST_DOWNS:
            self._log.warning("a job is set aside", user=job.key.user, job=job.key.job, downs=job.downs)
            self._end_unqueued(job, "poisoned", _set_aside(job.downs))
            return None
        depends_on = None if job.depends_on is None else s.JobKey(job.key.user, job.depends_on)
        base = None if depends_on is None else self._jobs.get(depends_on)
        if base is not None and ((base.finished and base.state != "succeeded") or base.key in self._ending):
            ended = f" ended as {base.state}" if base.finished else "'s turn did not succeed"
            message = f"Turn job {base.key.job}{ended}, so there is no picture to edit."
            remedy = "Edit another turn, or the first picture (base 0)."
            self._end_unqueued(job, "dependency_failed", DependencyFailed(message, remedy))
            return None
        return s.Submitted(
            s.JobRequest(
                key=job.key,
                cost=self.cost(job.spec),
                order=job.order,
                session=job.session and f"{job.key.user}/{job.session}",
                depends_on=depends_on,
                preview=job.request.preset == "preview",
                deaths=job.deaths,
                alone=job.downs > 0 or job.kills >= PATIENT_KILLS,
                priority=job.request.priority,
                preemptible=job.request.preemptible,
            )
        )

    def _end_unqueued(self, job: Job, outcome: s.Outcome, error: QiedError) -> None:
        """End a job that the scheduler never hears of, and remember that for the turns on it until it is stored."""
        self._ending.add(job.key)
        self._spawn(self._conclude(s.Conclude(job.key, outcome, error.code, error.message, error.remedy)))

    def feed(self, event: s.Event) -> None:
        """Feed events to the scheduler, and carry out its actions."""
        for action in self._scheduler.handle(event, now_ms()):
            self._perform(action)

    def tell_waiting(self, note: str) -> None:
        """Have all jobs that wait, now or later, hear what keeps the workers from working ("" if nothing does)."""
        if note == self._trouble:
            return
        self._trouble = note
        self._tell_places()

    # Reports of workers

    def stepped(self, report: w.Stepped) -> None:
        """A worker has done one unit of work."""
        job = self._running(report.user, report.job)
        if job is None or job.finished:
            return
        if report.step_ms is not None:
            self.pace.learn(job.spec, report.step_ms)
        pixels = job.spec.width * job.spec.height
        self._figures.stepped(pixels, report.step_ms, report.together, preview=bool(report.preview))
        self.feed(s.Progressed(job.key, report.spent_ms, report.remaining_ms))
        job.step = report.step
        kind = "step" if report.phase in ("denoise", "redraw") else "phase"
        common = {"phase": report.phase, "step": report.step, "steps": report.steps}
        self._jobs.publish(job, kind, remaining_ms=report.remaining_ms, **common)
        if report.preview:
            self._jobs.publish(job, "preview", preview=bytes(report.preview), **common)

    async def finished(self, report: w.EditFinished) -> None:
        """A worker has delivered a result: journal it, then notify."""
        job = self._running(report.user, report.job)
        if job is None:
            self._gave_up(s.JobKey(report.user, report.job))
            return
        outcome = _outcome(
            job,
            "succeeded",
            result_blob=report.blob,
            result_bytes=report.size,
            media_type=report.media_type,
            timings=pack_measured(report.timings, report.drift),
        )
        own = OwnBlob(job.key.user, report.blob, report.size, outcome.finished_at)
        with self._ownership.keep(report.blob):
            stored = await self._store(job, outcome, own, warnings=report.warnings, thumbnail=bytes(report.thumbnail))
        if stored:
            self._figures.stages_done(report.timings)
            if job.spec.upscale and "upscale_ms" in report.timings:
                self.pace.learn_upscaling(job.spec, report.timings["upscale_ms"])
            self.feed(s.Succeeded(job.key))
        else:
            self.feed(s.Failed(job.key, JobCancelled.code, "cancelled before its result arrived"))

    async def failed(self, report: w.EditFailed) -> None:
        """A worker has given a job up."""
        job = self._running(report.user, report.job)
        if job is None:
            self._gave_up(s.JobKey(report.user, report.job))
            return
        self.feed(s.Failed(job.key, report.code, report.message, report.retry_smaller, report.remedy))

    def _gave_up(self, key: s.JobKey) -> None:
        """A worker let go of a job that was cancelled and released meanwhile: its place and bytes are free."""
        self.feed(s.Failed(key, JobCancelled.code, "cancelled and released while it ran"))

    async def cancel(self, job: Job, by: str = "") -> None:
        """Store the outcome first, so that it stands whatever happens next; then stop the work."""
        message = f"The job was cancelled{by}."
        error = JobCancelled(message, "Submit it again under a new id if you want it after all.")
        if await self._store(job, _outcome(job, "cancelled", error=error)):
            self.feed(s.CancelRequested(job.key))

    async def settle(self) -> None:
        """Wait until all pending outcomes are stored, but not forever: jobs without one run again at the next start."""
        if self._background:
            await asyncio.wait(self._background, timeout=_SETTLE_S)
        for task in list(self._background):
            task.cancel()

    # Actions of the scheduler

    def _perform(self, action: s.Action) -> None:
        match action:
            case s.Start(worker, key, weight):
                self._start(self._known(key), worker, weight)
            case s.Stop(worker, key):
                assert self._orders is not None
                self._orders.stop(worker, w.StopEdit(key.user, key.job))
            case s.Conclude():
                self._spawn(self._conclude(action))
            case s.Requeued(key, deaths, reason):
                self._requeue(self._known(key), deaths, reason)
            case s.PlaceChanged(key, place, starts_in_ms):
                job = self._known(key)
                job.place, job.starts_in_ms = place, starts_in_ms
                self._tell_place(job)
            case s.Unload(worker):
                assert self._orders is not None
                self._orders.unload(worker)
            case s.Wake(worker):
                assert self._orders is not None
                self._orders.load(worker)
            case s.WaitReasonChanged(reason):
                self._why_waiting = reason
                self._tell_places()

    def _tell_places(self) -> None:
        for job in self._jobs:
            if job.state == "waiting":
                self._tell_place(job)

    def _tell_place(self, job: Job) -> None:
        """Say where a job is in the queue, and what keeps everybody in it, if anything does."""
        why = _WHY_WAITING[self._why_waiting]
        note = why if self._why_waiting == "paused" else self._trouble or why
        self._jobs.publish(job, "queued", place=job.place, starts_in_ms=job.starts_in_ms, note=note)

    def _start(self, job: Job, worker: str, weight: int) -> None:
        assert self._orders is not None
        job.state, job.worker, job.place, job.starts_in_ms = "running", worker, None, None
        if job.started_ms is None:
            self._figures.job_started(now_ms() - job.queued_ms)
        job.started_ms = now_ms()
        self._jobs.publish(job, "started", steps=job.spec.most_steps)
        spec = self._complete(job)
        if spec is None:
            self._spawn(self._miss_picture(job))
            return
        scope = f"{job.key.user}/{job.session or ''}"
        order = w.Begin(
            job.key.user, job.key.job, spec, scope, weight, job.request.preset == "preview", job.request.preemptible
        )
        self._spawn(self._mark_running(job))
        self._orders.begin(worker, order)

    async def _mark_running(self, job: Job) -> None:
        """Note that it runs, in case that the machine goes down; without the note it only counts as innocent."""
        with suppress(*PASSING, ShuttingDown):
            await self._journal.apply(MarkRunning(job.key.user, job.key.job, self._boot))

    def _complete(self, job: Job) -> EditSpec | None:
        """The edit with the picture of the turn that it waited for; None where the user has given that up since."""
        if job.depends_on is None:
            return job.spec
        base = self._jobs.get(s.JobKey(job.key.user, job.depends_on))
        blob = base.outcome.result_blob if base is not None and base.outcome is not None else None
        if blob is None and job.session is not None:
            session = self._sessions.find(job.key.user, job.session)
            turns = () if session is None else session.turns.values()
            blob = next((turn.result_blob for turn in turns if turn.job == job.depends_on), None)
        return None if blob is None else replace(job.spec, images=(blob, *job.spec.images))

    async def _miss_picture(self, job: Job) -> None:
        """End a turn without a picture: the job before it failed just now, or was released and its session closed."""
        message = f"The result of job {job.depends_on}, which this job edits, is gone."
        remedy = "Release jobs and close sessions only once no turn waits for them."
        self.feed(s.Failed(job.key, DependencyFailed.code, message, remedy=remedy))

    def _requeue(self, job: Job, deaths: int, reason: str) -> None:
        job.state, job.worker, job.step = "waiting", None, 0
        job.deaths = deaths
        job.requeues += 1
        self._jobs.requeued(job, reason)
        self._log.info("requeued", user=job.key.user, job=job.key.job, deaths=deaths, reason=reason)
        self._spawn(self._journal_until_done(CountDeath(job.key.user, job.key.job, deaths, job.requeues)))

    async def _conclude(self, action: s.Conclude) -> None:
        job = self._jobs.get(action.key)
        if job is None or job.finished:
            return
        state: OutcomeState = "failed" if action.outcome == "dependency_failed" else action.outcome
        error = QiedError(action.message, action.remedy)
        await self._store(job, _outcome(job, state, error=error, code=action.code))

    async def _store(
        self,
        job: Job,
        outcome: StoreOutcome,
        *more: Change,
        warnings: Sequence[str] = (),
        thumbnail: bytes = b"",
    ) -> bool:
        """Journal an outcome; returns whether it is the one, and not a second one."""
        if job.finished:
            return False
        note = StoreNote(job.note(outcome, warnings), thumbnail)
        effects = await self._journal_until_done(outcome, note, *more)
        if not effects[0] or job.finished:
            return False
        job.warnings = tuple(warnings)
        for owner in more:
            if isinstance(owner, OwnBlob):
                self._ownership.own(owner)
        self._jobs.conclude(job, outcome)
        ran_ms = None if job.started_ms is None else now_ms() - job.started_ms
        self._figures.job_ended(outcome.state, job.spec.preset, ran_ms)
        if job.session is not None and outcome.result_blob is not None:
            self._sessions.job_succeeded(job.key, job.session, outcome.result_blob, outcome.finished_at)
        self._log.info("finished", **_in_short(job, outcome, self._precision, now_ms()))
        return True

    async def _journal_until_done(self, *changes: Change) -> tuple[bool, ...]:
        """Journal what must not be lost: a disk that is full or away delays it and is logged, but does not drop it."""
        while True:
            try:
                return await self._journal.apply(*changes)
            except PASSING as error:
                self._log.error("cannot journal, trying again", reason=str(error))
                await asyncio.sleep(_RETRY_S)

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        task.add_done_callback(self.tell_if_broken)

    def tell_if_broken(self, task: asyncio.Task[Any]) -> None:
        """A task that must not fail has failed: the next start repairs what it left undone, so stop."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a part of the daemon failed, stopping", exc_info=error)
            if not self.broken.done():
                self.broken.set_result(error)

    def _running(self, user: str, name: str) -> Job | None:
        return self._jobs.get(s.JobKey(user, name))

    def _known(self, key: s.JobKey) -> Job:
        job = self._jobs.get(key)
        assert job is not None, f"the scheduler knows a job that the book does not: {key}"
        return job


def _set_aside(downs: int) -> QiedError:
    often = "twice" if downs == 2 else f"{downs} times"
    return JobSetAside(
        f"Set aside, because the machine went down {often} while it ran.",
        "If something else took the machine down, submit it again under a new id; else look at the machine's power, "
        "memory and driver first.",
    )


def _in_short(job: Job, outcome: StoreOutcome, precision: str, now: int) -> dict[str, object]:
    """An edit that has ended, for the log: no prompt and no picture. Times are those of its last run and before it."""
    fields: dict[str, object] = {
        "user": job.key.user,
        "job": job.key.job,
        "state": outcome.state,
        "code": outcome.error_code,
        "width": job.spec.size[0],
        "height": job.spec.size[1],
        "steps": job.spec.steps,
    }
    if job.started_ms is not None:
        fields |= {"precision": precision, "run_ms": now - job.started_ms, "wait_ms": job.started_ms - job.queued_ms}
    if outcome.state in ("failed", "poisoned"):
        fields |= {"why": outcome.error_message, "remedy": outcome.error_remedy}
    return fields


def _outcome(
    job: Job,
    state: OutcomeState,
    *,
    error: QiedError | None = None,
    code: str | None = None,
    result_blob: str | None = None,
    result_bytes: int = 0,
    media_type: str | None = None,
    timings: bytes = b"",
) -> StoreOutcome:
    return StoreOutcome(
        user=job.key.user,
        job=job.key.job,
        state=state,
        result_blob=result_blob,
        result_bytes=result_bytes,
        media_type=media_type,
        seed=job.spec.seed,
        timings=timings,
        error_code=code or (error.code if error else None),
        error_message=error.message if error else None,
        error_remedy=error.remedy if error else None,
        finished_at=time.time(),
    )
