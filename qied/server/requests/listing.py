"""LIST, FETCH, SESSIONS and TURNS: what a user has in the daemon."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest, nsmallest

from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.message import cut_text

from qied.scheduling.model import JobKey
from qied.server.jobs import Job
from qied.server.journal.changes import JobNote
from qied.server.journal.stored_edit import drift_in
from qied.server.requests.front_services import FrontServices
from qied.server.sessions import Session, Turn


class UserLists:
    """Pages of jobs, sessions and turns, the newest jobs and turns first, and everything about one job."""

    def __init__(self, desk: FrontServices) -> None:
        self._desk = desk

    def jobs(self, user: str, message: m.ListJobs) -> m.JobList:
        """The user's newest jobs, or the newest below a number."""
        below = message.before
        older = (job for job in self._desk.jobs.of_user(user) if below is None or job.number < below)
        found = nlargest(limits.PAGE_JOBS + 1, older, key=lambda job: job.number)
        page = tuple(job_info(job) for job in found[: limits.PAGE_JOBS])
        return m.JobList(message.id, page, more=len(found) > limits.PAGE_JOBS)

    async def fetch(self, user: str, message: m.Fetch) -> m.Fetched:
        """Everything about one job; raises UnknownJob."""
        key = JobKey(user, message.job)
        job = self._desk.jobs.get(key)
        if job is None:
            fetched = await self._remembered(key, message.id)
        else:
            fetched = _fetched(message.id, job)
        if not message.thumbnail or (job is not None and not job.finished):
            return fetched
        return fetched.with_body(await self._desk.journal.thumbnail(user, message.job))

    async def _remembered(self, key: JobKey, identifier: int) -> m.Fetched:
        """What a turn of a session remembers of a released job."""
        for session in self._desk.sessions.of_user(key.user):
            for turn in session.turns.values():
                if turn.job == key.job:
                    note = (await self._desk.journal.notes(key.user, [key.job])).get(key.job)
                    if note is not None:
                        return _gone(identifier, note, session, turn)
        raise self._desk.releases.unknown(key)

    async def sessions(self, user: str, message: m.ListSessions) -> m.SessionList:
        """The user's sessions in the order of their ids."""
        after = message.after
        others = (one for one in self._desk.sessions.of_user(user) if after is None or one.name > after)
        found = nsmallest(limits.PAGE_SESSIONS + 1, others, key=lambda session: session.name)
        page = found[: limits.PAGE_SESSIONS]
        latest = {one.name: one.turns[one.head].job for one in page if one.head in one.turns}
        prompts = await self._prompts(user, list(latest.values()))
        infos = tuple(_session_info(one, prompts.get(latest.get(one.name, ""), "")) for one in page)
        return m.SessionList(message.id, infos, more=len(found) > limits.PAGE_SESSIONS)

    async def _prompts(self, user: str, jobs: Sequence[str]) -> dict[str, str]:
        """Beginnings of prompts by job, of those that are known."""
        kept = {name: job for name in jobs if (job := self._desk.jobs.get(JobKey(user, name))) is not None}
        notes = await self._desk.journal.notes(user, [name for name in jobs if name not in kept])
        return {
            **{name: note.prompt for name, note in notes.items()},
            **{name: _short_prompt(job) for name, job in kept.items()},
        }

    async def turns(self, user: str, message: m.ListTurns) -> m.TurnList:
        """The newest turns of a session, or the newest below a number; raises UnknownSession."""
        session = self._desk.sessions.get(user, message.session)
        below = message.before
        older = (turn for turn in session.turns.values() if below is None or turn.number < below)
        found = nlargest(limits.PAGE_TURNS + 1, older, key=lambda turn: turn.number)
        page = found[: limits.PAGE_TURNS][::-1]
        jobs = {turn.number: self._desk.jobs.get(JobKey(user, turn.job)) for turn in page}
        notes = await self._desk.journal.notes(user, [turn.job for turn in page if jobs[turn.number] is None])
        rows = tuple(_turn_info(turn, jobs[turn.number], notes.get(turn.job)) for turn in page)
        return m.TurnList(message.id, session.name, session.head, rows, more=len(found) > limits.PAGE_TURNS)


def job_info(job: Job) -> m.JobInfo:
    """One job as its user sees it; of one that cannot be read, what is known."""
    outcome = job.outcome
    return m.JobInfo(
        job=job.key.job,
        number=job.number,
        state=job.state,
        prompt=_short_prompt(job),
        seed=job.spec.seed if outcome is None else outcome.seed,
        steps=job.spec.most_steps if job.unreadable is None else 0,
        width=job.spec.size[0],
        height=job.spec.size[1],
        precision=job.spec.precision,
        preset=job.spec.preset,
        accepted_ms=_milliseconds(job.accepted_at),
        finished_ms=0 if outcome is None else _milliseconds(outcome.finished_at),
        step=min(job.step, job.spec.most_steps) if job.state == "running" else 0,
        place=job.place,
        starts_in_ms=job.starts_in_ms,
        bytes=0 if outcome is None else outcome.result_bytes,
        fetched=job.fetched_at is not None,
        session=job.session,
        turn=job.turn,
        code="" if outcome is None else cut_text(outcome.error_code or "", limits.SHORT_NAME_BYTES),
    )


def _fetched(identifier: int, job: Job) -> m.Fetched:
    outcome, known = job.outcome, job.unreadable is None
    return m.Fetched(
        re=identifier,
        info=job_info(job),
        prompt=job.spec.prompt,
        blob=None if outcome is None else outcome.result_blob,
        media_type="" if outcome is None else outcome.media_type or "",
        true_cfg_scale=job.spec.true_cfg_scale if known else 0.0,
        schedule=job.spec.schedule if known else "",
        loras=job.spec.loras,
        warnings=job.all_warnings,
        message="" if outcome is None else cut_text(outcome.error_message or "", limits.REASON_BYTES),
        remedy="" if outcome is None else cut_text(outcome.error_remedy or "", limits.REASON_BYTES),
        drift=None if outcome is None else drift_in(outcome.timings),
    )


def _gone(identifier: int, note: JobNote, session: Session, turn: Turn) -> m.Fetched:
    info = m.JobInfo(
        job=note.job,
        number=note.number,
        state=note.state,
        prompt=note.prompt,
        seed=note.seed,
        steps=0,
        width=0,
        height=0,
        precision="",
        preset="",
        accepted_ms=_milliseconds(note.accepted_at),
        finished_ms=_milliseconds(note.finished_at),
        session=session.name,
        turn=turn.number,
    )
    return m.Fetched(identifier, info, note.prompt, turn.result_blob, warnings=note.warnings, gone=True)


def _session_info(session: Session, prompt: str) -> m.SessionInfo:
    return m.SessionInfo(
        session=session.name,
        source=session.source,
        head=session.head,
        turns=len(session.turns),
        opened_ms=_milliseconds(session.opened_at),
        used_ms=_milliseconds(session.used_at),
        prompt=prompt,
    )


def _turn_info(turn: Turn, job: Job | None, note: JobNote | None) -> m.TurnInfo:
    if job is not None:
        info = job_info(job)
        prompt, seed, accepted_ms, finished_ms = info.prompt, info.seed, info.accepted_ms, info.finished_ms
    elif note is not None:
        prompt, seed = note.prompt, note.seed
        accepted_ms, finished_ms = _milliseconds(note.accepted_at), _milliseconds(note.finished_at)
    else:  # released before notes were taken
        prompt, seed, accepted_ms, finished_ms = "", 0, 0, 0
    state = "released" if job is None else job.state
    return m.TurnInfo(turn.number, turn.base, turn.job, state, prompt, seed, accepted_ms, finished_ms, turn.result_blob)


def _short_prompt(job: Job) -> str:
    return cut_text(job.spec.prompt, limits.SHORT_PROMPT_BYTES)


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
