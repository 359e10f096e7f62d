"""The status report: what the daemon is doing, with other users' ids left out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from qied_client.protocol import limits
from qied_client.protocol import messages as m

from qied.link.launch import LaunchOrder
from qied.metrics.standing import CardMemory, Standing
from qied.planning.requests.serving import Serving
from qied.server.blobs.store import BlobStore
from qied.server.clock import now_ms
from qied.server.dispatcher import Dispatcher
from qied.server.jobs import JobBook
from qied.server.sessions import SessionBook
from qied.server.workers.pool import Worker, WorkerPool


class Reporter:
    """Builds the answer to STATUS, and the gauges of a scrape."""

    def __init__(
        self,
        serving: Serving,
        jobs: JobBook,
        sessions: SessionBook,
        store: BlobStore,
        dispatcher: Dispatcher,
        pool: WorkerPool,
    ) -> None:
        self._serving = serving
        self._jobs = jobs
        self._sessions = sessions
        self._store = store
        self._dispatcher = dispatcher
        self._pool = pool
        self._started_ms = now_ms()

    def report(
        self, identifier: int, user: str, clients: int, draining: bool, finishing: bool, *, everyone: bool = False
    ) -> m.StatusReport:
        """The report as this user may see it; ``everyone``: with the ids of all users."""
        usage = self._store.usage()
        return m.StatusReport(
            re=identifier,
            model=self._serving.profile.name,
            precision=self._serving.precision,
            uptime_ms=now_ms() - self._started_ms,
            clients=clients,
            waiting=sum(job.state == "waiting" for job in self._jobs.live),
            running=sum(job.state == "running" for job in self._jobs.live),
            stored=self._jobs.results,
            blob_bytes=usage.stored,
            blob_limit=usage.limit,
            draining=draining,
            workers=tuple(self._worker_rows()),
            jobs=tuple(self._job_rows(None if everyone else user)),
            sessions=tuple(self._session_rows(None if everyone else user)),
            paused=self._dispatcher.view().paused,
            finishing=finishing and not draining,
        )

    def standing(self) -> Standing:
        """What is the case now, as gauges. Of the card's memory, the plan is what its worker was launched with."""
        states = Counter(job.state for job in self._jobs.live)
        workers = self._pool.workers
        names = card_names([worker.order for worker in workers])
        return Standing(
            queued=states["waiting"],
            running=states["running"],
            sessions=len(self._sessions),
            workers=Counter(worker.condition for worker in workers),
            cards=tuple(_memory_of(name, worker) for name, worker in zip(names, workers, strict=True)),
        )

    def _worker_rows(self) -> list[m.WorkerRow]:
        views = {view.worker: view for view in self._dispatcher.view().workers}
        rows = []
        for worker in self._pool.workers:
            view = views.get(worker.name)
            rows.append(
                m.WorkerRow(
                    worker=worker.name,
                    state=worker.condition,
                    device="" if worker.offer is None else worker.offer.device,
                    budget=view.budget_bytes if view else 0,
                    weights=view.weights_bytes if view else 0,
                    sessions=view.state_bytes if view else 0,
                    arena=view.arena_bytes if view else 0,
                    free=view.free_bytes if view else 0,
                    restarts=worker.restarts,
                    trouble="" if worker.trouble is None else _shortened(str(worker.trouble)),
                )
            )
        return rows[:8]

    def _job_rows(self, user: str | None) -> list[m.JobRow]:
        live = sorted(self._jobs.live, key=lambda job: (job.state != "running", job.place or 0, job.order))
        return [
            m.JobRow(
                user=job.key.user,
                job=job.key.job if user in (None, job.key.user) else None,
                state=job.state,
                step=job.step,
                steps=job.spec.most_steps,
                width=job.spec.size[0],
                height=job.spec.size[1],
                place=job.place,
                starts_in_ms=job.starts_in_ms,
            )
            for job in live[: limits.STATUS_ROWS]
        ]

    def _session_rows(self, user: str | None) -> list[m.SessionRow]:
        newest = sorted(self._sessions, key=lambda session: -session.used_at)
        now = time.time()
        return [
            m.SessionRow(
                user=session.user,
                session=session.name if user in (None, session.user) else None,
                turns=len(session.turns),
                idle_ms=max(0, round((now - session.used_at) * 1000)),
            )
            for session in newest[: limits.STATUS_ROWS]
        ]


def card_names(orders: Sequence[LaunchOrder]) -> list[str]:
    """A name for the card of each worker: its index or cpu, and a number for partitions that share an index."""
    seen: Counter[str] = Counter()
    names = []
    for order in orders:
        run = order.execution
        name = str(run.device_index) if run.device == "cuda" else run.device
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names


def _memory_of(name: str, worker: Worker) -> CardMemory:
    order = worker.order
    planned = order.fixed_bytes + order.edits_bytes
    return CardMemory(name, order.budget_bytes, planned, worker.own_bytes, worker.highest_bytes)


def _shortened(text: str) -> str:
    raw = text.encode()
    return (
        text if len(raw) <= limits.TROUBLE_BYTES else raw[: limits.TROUBLE_BYTES - 4].decode(errors="ignore") + " ..."
    )
