"""The daemon: assembles the parts of the front, starts them in order, and stops them in reverse."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version as installed_version
from pathlib import Path

import structlog
import zmq
import zmq.asyncio
from qied_client.errors import DiskFull, InternalError, QiedError
from qied_client.protocol import limits, timing
from qied_client.protocol import messages as m
from qied_client.protocol.readiness import Readiness, readiness

from qied import __version__
from qied.config import Config
from qied.hardware.host import boot_id
from qied.link.launch import LaunchOrder
from qied.metrics.figures import Figures
from qied.planning.requests.serving import Serving
from qied.progress import OnProgress
from qied.scheduling import model as s
from qied.scheduling.scheduler import Scheduler
from qied.server.access.authentication import Authenticator
from qied.server.access.guest_list import GuestList
from qied.server.access.keys import LOCAL_USER, KeyStore
from qied.server.access.start_proof import prove_ports_are_closed
from qied.server.admission import Admission, Shares
from qied.server.blobs.ownership import Ownership
from qied.server.blobs.store import BlobStore
from qied.server.blobs.transfers import BlobTransfers
from qied.server.client_port import ClientPort
from qied.server.control import Control, watch_idle_workers, watch_users
from qied.server.dispatcher import Dispatcher
from qied.server.housekeeping import Housekeeper
from qied.server.jobs import Job, JobBook
from qied.server.journal.changes import CountInterruption, ForgetRunning, JournalState, OwnBlob
from qied.server.journal.journal import Journal
from qied.server.machine_downs import PATIENT_KILLS, counted
from qied.server.off_loop import ask_loop
from qied.server.ports.flood_guard import can_guard
from qied.server.ports.listening import reached_from_here
from qied.server.ports.peer import Peer
from qied.server.ports.reach import only_this_machine
from qied.server.releases import Releases
from qied.server.requests.dispatching import Requests
from qied.server.requests.front_services import FrontServices
from qied.server.sessions import SessionBook
from qied.server.status import Reporter
from qied.server.workers.pool import WorkerPool

_UNGUARDED = {"remedy": "listen on 127.0.0.1 and let others in through a tunnel (ssh -L), or serve on Linux"}
_LOOK_S = 5.0
"""Seconds that a scrape waits for the event loop."""
_QUIET_S = 0.3
"""Seconds without any request or transfer after which clients are assumed to be done."""


@dataclass(frozen=True)
class Launch:
    """The decisions of ``serve``: the state folder, the configuration, the served model, and how workers start.

    ``refit`` fits an order to the memory that is free when its worker starts again, or raises the QiedError that says
    why it cannot start; it blocks. ``paused``: the queue is paused from the start on, until the owner resumes it.
    """

    home: Path
    config: Config
    serving: Serving
    orders: tuple[LaunchOrder, ...]
    refit: Callable[[LaunchOrder], LaunchOrder]
    paused: bool = False


class Daemon:
    """One running front with its workers. Make it with ``start``, end it with ``stop``."""

    def __init__(self, launch: Launch) -> None:
        self._log = structlog.get_logger(part="daemon")
        self._launch = launch
        config = launch.config
        self._keys = KeyStore(launch.home)
        self._server_keys = self._keys.server_keys()
        self.figures = _figures(launch.serving)
        self._loop = asyncio.get_running_loop()
        self._journal = Journal.open(launch.home / "journal.db", self.figures.committed)
        state = self._journal.load()
        self._executor = ThreadPoolExecutor(4, thread_name_prefix="disk")
        self._jobs = JobBook(self._journal.incarnation)
        self._sessions = SessionBook()
        self._ownership = Ownership(state.owners.values())
        self._releases = Releases(self._journal, self._jobs, self._ownership, _tombstones(state))
        self._boot = boot_id()
        self._interrupted: list[CountInterruption] = []
        self._next_order = self._journal.next_order
        self._shares = Shares(config.storage, self._jobs, self._ownership)
        self._store = BlobStore(
            launch.home / "blobs",
            config.storage.blob_bytes,
            limits.BLOB_BYTES,
            config.storage.free_reserve_bytes,
            left_to_results=self._shares.left_to_results,
            max_result_bytes=limits.RESULT_BYTES,
        )
        self._restored = self._restore(state)
        self._was_paused = state.paused
        self._context = zmq.asyncio.Context()
        self._guests = GuestList(self._keys)
        self._authenticator = Authenticator(self._context, self._guests.lookup)
        quotas = config.limits
        shares = s.Limits(quotas.jobs_running_per_user, quotas.jobs_waiting_per_user, quotas.jobs_waiting)
        scheduler = Scheduler(shares, config.worker.idle_unload_s * 1000)
        self._dispatcher = Dispatcher(
            scheduler,
            self._journal,
            self._jobs,
            self._sessions,
            self._ownership,
            launch.serving,
            self.figures,
            self._boot,
        )
        self._housekeeper = Housekeeper(
            config.storage,
            self._journal,
            self._store,
            self._executor,
            self._jobs,
            self._sessions,
            self._ownership,
            self._releases,
            state.known_time,
            self._shares.own_bytes,
        )
        keys = (self._server_keys.public, self._server_keys.secret)
        self._pool = WorkerPool(
            self._context,
            keys,
            launch.orders,
            launch.refit,
            self._dispatcher,
            self._worker_transfers(),
            config.worker.step_timeout_s,
            self.figures,
        )
        self._guests.workers = self._pool.authorise
        self._dispatcher.use(self._pool)
        self.control = Control(self._journal, self._dispatcher, self._jobs)
        self._reporter = Reporter(launch.serving, self._jobs, self._sessions, self._store, self._dispatcher, self._pool)
        self.figures.ask(lambda: ask_loop(self._loop, self._reporter.standing, _LOOK_S))
        self._requests = Requests(self._desk(), self._next_order)
        self.control.are_accepted = lambda: self._requests.submissions.accepts_now
        self._clients = ClientPort(
            self._context,
            self._server_keys.secret,
            self._client_transfers(),
            self._requests,
            self._jobs,
            self._greeted,
            self._guests,
            quotas,
            self.figures.refused,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self.address = ""

    async def start(self, on_loading: OnProgress) -> None:
        """Restore the state of an earlier run, listen, check that unknown keys are refused, and start workers.

        Returns once a worker is ready. Raises SetupError and its kinds.
        """
        with suppress(DiskFull):  # then they are counted at the next start
            await self._journal.apply(*self._interrupted)
        await self.control.start(self._was_paused, self._launch.paused)
        self._dispatcher.submit(*self._restored)  # before anybody can cancel one of them, or submit a turn on one
        self.address = self._clients.bind(self._launch.config.daemon.listen)
        if not only_this_machine(self.address) and not await asyncio.to_thread(can_guard):
            self._log.warning("connections that send an endless message are not closed on this system", **_UNGUARDED)
        reachable, workers = await asyncio.to_thread(reached_from_here, self.address), self._pool.listen()
        local = await asyncio.to_thread(self._keys.ensure_local, reachable)
        await prove_ports_are_closed(self._authenticator, reachable, workers, local)
        self._log.info("checked that unknown keys are refused, and clients' keys at the workers' port")
        self._pool.on_loading = on_loading
        self._pool.start()
        self._tasks.append(asyncio.create_task(self._housekeeper.run(), name="housekeeping"))
        users = watch_users(self._dispatcher, lambda: self._clients.users)
        self._tasks.append(asyncio.create_task(users, name="users"))
        if idle_unload_s := self._launch.config.worker.idle_unload_s:
            self._tasks.append(asyncio.create_task(watch_idle_workers(self._dispatcher, idle_unload_s), name="idle"))
        self._log.info("listening", address=self.address, unfinished_jobs=len(self._restored))
        await self._pool.first_ready()

    def readiness(self) -> Readiness:
        """Whether edits can start; for other threads, raises TimeoutError if the event loop does not answer."""
        return ask_loop(self._loop, lambda: readiness(self._report(0, LOCAL_USER, False)), _LOOK_S)

    def reload(self) -> None:
        """Read the enrolled clients again; changes count without it as well, within half a second."""
        self._guests.refresh()

    async def broken(self) -> None:
        """Wait until a part that must not fail has failed; raises InternalError then."""
        error = await asyncio.shield(self._dispatcher.broken)
        raise InternalError(
            f"A part of the daemon failed: {error!r}.", "See its log; its jobs continue at the next start."
        )

    async def drain(self) -> None:
        """Accept nothing new and let running jobs finish, for as long as the configuration grants.

        Unfinished jobs stay in the journal: the next start runs them again.
        """
        self._requests.submissions.draining = True
        await self._forget_running()
        self._dispatcher.feed(s.DrainRequested())
        running = self._count("running")
        grace = self._launch.config.daemon.stop_grace_s
        self._log.info("stopping", running=running, waiting=self._count("waiting"), grace_s=grace)
        try:
            async with asyncio.timeout(grace):
                await self._jobs.none_running()
                await self._clients.quiet(_QUIET_S)
        except TimeoutError:
            self._log.warning("grace period is over", requeued=self._count("running"))

    async def stop(self) -> None:
        """Close everything at once; unfinished jobs stay in the journal."""
        left = self._count("running") + self._count("waiting")
        await self.control.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pool.close()
        await self._dispatcher.settle()
        await self._forget_running()
        self._clients.say_goodbye("The daemon is stopping.")
        await self._clients.close()
        await self._authenticator.close()
        await self._journal.close()
        self._executor.shutdown()
        self._context.term()
        self._log.info("stopped", results_kept=sum(job.finished for job in self._jobs), requeued=left)

    async def _forget_running(self) -> None:
        """From now on an end of the machine does not count as an interruption of jobs: the daemon stops in order."""
        with suppress(QiedError):
            await self._journal.apply(ForgetRunning())

    def _count(self, state: str) -> int:
        return sum(job.state == state for job in self._jobs)

    def _restore(self, state: JournalState) -> list[Job]:
        unfinished = []
        for stored in state.jobs.values():
            job = Job.restored(stored)
            if (counts := counted(stored, self._boot)) is not None:
                job.kills, job.downs = counts.kills, counts.downs
                self._interrupted.append(counts)
            self._jobs.add(job)
            if not job.finished:
                unfinished.append(job)
        for session in state.sessions.values():
            self._sessions.restore(session)
        unfinished.sort(key=lambda job: job.order)
        for job in unfinished:
            if job.kills >= PATIENT_KILLS:
                job.order, self._next_order = self._next_order, self._next_order + 1
        return unfinished

    def _desk(self) -> FrontServices:
        return FrontServices(
            serving=self._launch.serving,
            config=self._launch.config,
            admission=Admission(self._launch.config.limits, self._shares, self._jobs, self._store),
            journal=self._journal,
            store=self._store,
            executor=self._executor,
            jobs=self._jobs,
            sessions=self._sessions,
            ownership=self._ownership,
            releases=self._releases,
            dispatcher=self._dispatcher,
            report=self._report,
            control=self.control.obey,
            metrics=self.figures.text,
            finishing=lambda: self.control.finishing,
            forget_scope=self._pool.forget,
            make_room=self._housekeeper.make_room,
            forget_fetched=partial(self._housekeeper.forget_fetched, result=True),
        )

    def _report(self, identifier: int, user: str, everyone: bool) -> m.StatusReport:
        connected, draining = self._clients.connected, self._requests.submissions.draining
        return self._reporter.report(identifier, user, connected, draining, self.control.finishing, everyone=everyone)

    def _greeted(self, identifier: int, user: str) -> m.Welcome:
        self._dispatcher.feed(s.UsersSeen(frozenset({user})))
        profile = self._launch.serving.profile
        return m.Welcome(
            re=identifier,
            version=limits.VERSION,
            software=f"qied {__version__}",
            user=user,
            model=profile.name,
            presets=tuple(sorted(profile.presets)),
            heartbeat_ms=timing.HEARTBEAT_MS,
            silence_ms=timing.SILENCE_MS,
            chunk_bytes=limits.CHUNK_BYTES,
            credit=limits.CREDIT,
            blob_bytes=limits.BLOB_BYTES,
            max_images=profile.geometry.max_references,
            uploads=self._launch.config.limits.uploads_per_client,
            requests=self._launch.config.limits.requests_per_client,
        )

    def _client_transfers(self) -> BlobTransfers:
        async def stored(peer: Peer, blob: str, size: int) -> None:
            owner = OwnBlob(peer.user, blob, size, time.time())
            await self._journal.apply(owner)
            self._ownership.own(owner)

        return BlobTransfers(
            self._store,
            self._executor,
            "user",
            stored,
            lambda peer, blob: self._ownership.may_read(peer.user, blob),
            lambda peer: self._shares.own_bytes(peer.user),
            lambda peer, size: self._housekeeper.make_more_room(peer.user, size),
        )

    def _worker_transfers(self) -> BlobTransfers:
        async def stored(peer: Peer, blob: str, size: int) -> None:
            """A result gets its owner with the outcome; until then its age keeps it from being collected."""

        return BlobTransfers(
            self._store,
            self._executor,
            "worker",
            stored,
            lambda peer, blob: True,
            lambda peer: None,
            lambda peer, size: self._housekeeper.make_room(None, size),
        )


def _figures(serving: Serving) -> Figures:
    cards = Counter(plan.gpu for plan in serving.plans)
    facts = {
        "version": __version__,
        "torch": installed_version("torch"),
        "gpu": ", ".join(name if count == 1 else f"{count} x {name}" for name, count in cards.items()),
        "model": serving.profile.name,
        "precision": serving.precision,
    }
    return Figures(serving.profile.name, tuple(serving.profile.presets), facts)


def _tombstones(state: JournalState) -> list[tuple[s.JobKey, str]]:
    return [(s.JobKey(stone.user, stone.job), stone.payload_hash) for stone in state.tombstones.values()]
