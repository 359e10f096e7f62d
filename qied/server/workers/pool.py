"""The workers as the front sees them: started, listened to, restarted when they die."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import structlog
import zmq
import zmq.asyncio
from qied_client.awake_time import AwakeTime
from qied_client.errors import QiedError, from_code
from qied_client.protocol import messages as m
from qied_client.protocol import timing

from qied.link import messages as w
from qied.link.launch import LaunchOrder
from qied.metrics.figures import Figures
from qied.planning.plan import Execution
from qied.progress import OnProgress
from qied.scheduling import model as s
from qied.server.access.authentication import Guest
from qied.server.blobs.transfers import BlobTransfers
from qied.server.clock import now_ms
from qied.server.dispatcher import Dispatcher
from qied.server.ports.peer import Peer
from qied.server.ports.router_port import RouterPort
from qied.server.workers.hindrance import died_while_loading, held_by_others, note_for_waiting_jobs, process_refused
from qied.server.workers.oom_kills import OomKills
from qied.server.workers.process import Ending, WorkerProcess
from qied.server.workers.standby import Wanted, leave

_RESTART_BACKOFF_S = (0.0, 0.2, 1.0, 5.0, 15.0)

_SILENCE_MS = 20_000
"""How long a worker waits for a front that is alive but stopped, before it leaves the card to others.

When the front ends, the worker's input does, and it leaves at once.
"""

Condition = Literal["starting", "ready", "draining", "lost", "unloaded"]

_WITHHELD_STEP = 64 * 1024 * 1024
_SURPLUS_BYTES = 2 * 1024**3
"""Bytes beyond the reserve that a plan leaves: about nine blocks in FP8."""


@dataclass
class Worker:
    """One worker: what it is launched with, its process, its connection once attached, and its offer once loaded.

    ``withheld_bytes`` of its budget are held by other programs, and its process has ``own_bytes`` of the device, as it
    last reported; ``highest_bytes`` are the most that it had. Both are None where it does not report them. Of its
    ``active`` edits the engine has not yet those that are ``preparing``: their pictures are being decoded, which has
    limits of its own. ``broken`` is why its engine could not be loaded, by its own report, and ``trouble`` what keeps
    it from working now.
    """

    name: str
    order: LaunchOrder
    condition: Condition = "starting"
    peer: Peer | None = None
    offer: w.Offer | None = None
    process: WorkerProcess | None = None
    public_key: bytes = b""
    restarts: int = 0
    failed_starts: int = 0
    active: set[tuple[str, str]] = field(default_factory=set)
    preparing: set[tuple[str, str]] = field(default_factory=set)
    progress_ms: int = 0
    heard_ms: int = 0
    withheld_bytes: int = 0
    own_bytes: int | None = None
    highest_bytes: int | None = None
    surplus_told: bool = False
    broken: QiedError | None = None
    trouble: QiedError | None = None
    standby: Wanted = field(default_factory=Wanted)

    def concluded(self, edit: tuple[str, str]) -> None:
        """Forget an edit, of which the worker has said the last."""
        self.active.discard(edit)
        self.preparing.discard(edit)


class WorkerPool:
    """Keeps the configured workers running and speaks the link with them.

    ``orders`` has a launch order for each worker; names, keys and endpoint are filled in here. ``refit`` fits one to
    the memory that is free when its worker starts again, or raises the QiedError that says why that is not possible.
    """

    def __init__(
        self,
        context: zmq.asyncio.Context,
        server_keys: tuple[bytes, bytes],
        orders: Sequence[LaunchOrder],
        refit: Callable[[LaunchOrder], LaunchOrder],
        dispatcher: Dispatcher,
        transfers: BlobTransfers,
        step_timeout_s: int,
        figures: Figures,
    ) -> None:
        self._log = structlog.get_logger(part="workers")
        self._server_public = server_keys[0].decode()
        self._orders = orders
        self._refit = refit
        self._dispatcher = dispatcher
        self._transfers = transfers
        self._step_timeout_ms = step_timeout_s * 1000
        self._watch_s = min(1.0, self._step_timeout_ms / 4000)
        self._awake = AwakeTime(round(2000 * self._watch_s), now_ms())
        self._oom_kills = OomKills()
        self._workers: dict[str, Worker] = {}
        self._routes: dict[bytes, Worker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._address = ""
        self._first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_loading: OnProgress = lambda what, done, total: None
        self._figures = figures
        self._port = RouterPort(
            context,
            "worker",
            server_keys[1],
            w.FROM_WORKER,
            self._on_message,
            self._on_gone,
            on_sent=partial(figures.carried, "to_worker"),
            on_received=partial(figures.carried, "from_worker"),
        )

    def authorise(self, key: bytes) -> str | None:
        """Name of the worker that was given this key, or None."""
        return next((worker.name for worker in self._workers.values() if worker.public_key == key), None)

    def listen(self) -> str:
        """Open the port that workers connect to, on this machine alone; returns its address."""
        self._address = self._port.bind("tcp://127.0.0.1:*")
        return self._address

    def start(self) -> None:
        """Start the workers, after ``listen``; ``first_ready`` tells when one can work."""
        for index, order in enumerate(self._orders):
            worker = Worker(f"worker-{index}", order)
            self._workers[worker.name] = worker
            self._dispatcher.feed(s.WorkerExpected(worker.name))
            self._spawn(self._keep_running(worker))
        self._spawn(self._watch_progress())

    async def first_ready(self) -> None:
        """Wait until a worker is ready; raises the typed error of an engine that cannot be loaded."""
        await asyncio.shield(self._first_ready)

    @property
    def workers(self) -> list[Worker]:
        """All workers, for people."""
        return list(self._workers.values())

    def begin(self, worker: str, order: w.Begin) -> None:
        """Have a worker begin an edit."""
        found = self._workers[worker]
        found.active.add((order.user, order.job))
        found.preparing.add((order.user, order.job))
        self._log.info("started", user=order.user, job=order.job, worker=worker, active=len(found.active))
        self._progressed(found)
        if found.peer is not None:
            found.peer.send(order)

    def stop(self, worker: str, order: w.StopEdit) -> None:
        """Have a worker drop an edit."""
        found = self._workers[worker]
        if found.peer is not None:
            found.peer.send(order)

    def unload(self, worker: str) -> None:
        """End a worker's process until ``load``; the scheduler has taken its edits back, so nothing it says counts."""
        found = self._workers[worker]
        self._log.info("unloading", worker=worker)
        found.standby.unload(found.process)
        found.public_key = b""
        found.condition, found.offer, found.withheld_bytes = "unloaded", None, 0
        self._detach(found)
        if found.process is not None:
            self._spawn(leave(found.process))

    def load(self, worker: str) -> None:
        """Start the process of a worker that was unloaded, fitted to what is free now."""
        found = self._workers[worker]
        self._log.info("loading again", worker=worker)
        found.condition = "starting"
        found.standby.load()

    def forget(self, scope: str) -> None:
        """Have all workers drop the cache of a closed session."""
        for worker in self._workers.values():
            if worker.peer is not None:
                worker.peer.send(w.ForgetScope(scope))

    async def close(self) -> None:
        """End all workers: the next start requeues their edits."""
        self._stopping = True
        for worker in self._workers.values():
            if worker.process is not None:
                worker.process.close_input()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._end(worker) for worker in self._workers.values()))
        for peer in {id(worker.peer): worker.peer for worker in self._workers.values() if worker.peer}.values():
            peer.gone()
        await self._port.close()

    async def _end(self, worker: Worker) -> None:
        if worker.process is None:
            return
        waiting = asyncio.ensure_future(worker.process.wait())
        done, _ = await asyncio.wait([waiting], timeout=5)
        if not done:
            worker.process.kill()
            await waiting

    # Processes

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._dispatcher.tell_if_broken)

    async def _keep_running(self, worker: Worker) -> None:
        while not self._stopping:
            await worker.standby.wanted.wait()
            unloads = worker.standby.unloads
            if (worker.restarts or unloads) and not await self._fits_again(worker):
                self._dispatcher.feed(s.WorkerLost(worker.name, blame=False))
                await asyncio.sleep(_RESTART_BACKOFF_S[-1])
                continue
            if worker.standby.unloads != unloads:
                continue
            public, secret = zmq.curve_keypair()
            worker.public_key = public
            worker.condition, worker.broken = "starting", None
            order = replace(
                worker.order,
                worker=worker.name,
                endpoint=self._address,
                server_key=self._server_public,
                public_key=public.decode(),
                secret_key=secret.decode(),
            )
            try:
                worker.process = await WorkerProcess.start(order, self._oom_kills)
            except OSError as error:
                worker.broken = process_refused(error)
                self._hinder(worker, worker.broken)
                self._lost(worker, Ending(0, by_itself=False, started=False))
            else:
                self._progressed(worker)
                self._log.info("worker started", worker=worker.name, pid=worker.process.pid)
                if worker.standby.started_in_vain(worker.process, unloads):
                    self._spawn(leave(worker.process))
                ending = await worker.process.wait()
                if worker.standby.ended_on_request(worker.process):
                    self._log.info("unloaded", worker=worker.name)
                    worker.process = None
                    continue
                self._lost(worker, ending)
            await asyncio.sleep(_RESTART_BACKOFF_S[min(worker.failed_starts, len(_RESTART_BACKOFF_S) - 1)])

    async def _fits_again(self, worker: Worker) -> bool:
        """Fit a restarting worker to the memory that others leave on its card; returns whether it can start."""
        try:
            order = await asyncio.to_thread(self._refit, worker.order)
        except QiedError as error:
            self._hinder(worker, error)
            return False
        if order != worker.order:
            self._log.info(
                "planned again for the memory that is free now",
                worker=worker.name,
                budget_bytes=order.budget_bytes,
                resident_blocks=order.execution.resident_blocks,
            )
            worker.order, worker.surplus_told = order, False
        return True

    def _lost(self, worker: Worker, ending: Ending) -> None:
        worker.failed_starts = worker.failed_starts + 1 if worker.offer is None else 0
        worker.restarts += 1
        self._figures.worker_ended(ending.cause)
        worker.condition, worker.offer, worker.withheld_bytes = "lost", None, 0
        self._detach(worker)
        self._log.warning("worker ended", worker=worker.name, how=str(ending), by_itself=ending.by_itself)
        self._dispatcher.feed(s.WorkerLost(worker.name, blame=ending.by_itself, for_memory=ending.for_memory))
        if worker.failed_starts and worker.broken is None:
            self._hinder(worker, died_while_loading(worker.failed_starts, ending))
        if worker.failed_starts >= len(_RESTART_BACKOFF_S):
            self._give_up(died_while_loading(worker.failed_starts, ending))

    def _detach(self, worker: Worker) -> None:
        """Forget the connection of a worker, and the edits that it had."""
        worker.active.clear()
        worker.preparing.clear()
        worker.own_bytes = worker.highest_bytes = None
        if worker.peer is not None:
            self._routes.pop(worker.peer.route, None)
            worker.peer.gone()
            worker.peer = None

    def _give_up(self, error: QiedError) -> None:
        if not self._first_ready.done():
            self._first_ready.set_exception(error)

    async def _watch_progress(self) -> None:
        while True:
            await asyncio.sleep(self._watch_s)
            now = self._awake.tick(now_ms())
            for worker in self._workers.values():
                hung_ms = self._hung_ms(worker, now)
                if hung_ms and worker.process is not None:
                    self._log.error("worker makes no progress, killing it", worker=worker.name, silent_ms=hung_ms)
                    worker.process.kill_hung()
                    worker.progress_ms = worker.heard_ms = now

    def _hung_ms(self, worker: Worker, now: int) -> int:
        """Milliseconds for which a worker that has work has shown nothing, if those are too many, else 0.

        Edits that are prepared have limits of their own, as long as the worker is heard at all.
        """
        held, silent, unheard = worker.active - worker.preparing, now - worker.progress_ms, now - worker.heard_ms
        if held and silent > self._step_timeout_ms:
            return silent
        return unheard if worker.active and unheard > max(self._step_timeout_ms, timing.SILENCE_MS) else 0

    def _progressed(self, worker: Worker) -> None:
        """It has just shown that it works. Time in which this front was not run itself counts for no worker."""
        worker.progress_ms = self._awake.at(now_ms())
        if worker.process is not None:
            worker.process.reported()

    # What keeps workers from working

    def _hinder(self, worker: Worker, trouble: QiedError | None) -> None:
        """Note what keeps a worker from working, or that nothing does any more: in the log, and for all that wait."""
        if trouble is not None and str(worker.trouble or "") != str(trouble):
            self._log.error("a worker cannot work", worker=worker.name, trouble=trouble.message, remedy=trouble.remedy)
        worker.trouble = trouble
        self._dispatcher.tell_waiting(note_for_waiting_jobs(other.trouble for other in self._workers.values()))

    # Messages

    def _on_gone(self, route: bytes) -> None:
        worker = self._routes.pop(route, None)
        if worker is not None and worker.peer is not None and worker.process is not None:
            if worker.broken is None:
                self._log.warning("the link to a worker broke, killing it", worker=worker.name)
            worker.process.kill()

    def _on_message(self, route: bytes, guest: Guest, message: m.Message | QiedError) -> None:
        worker = self._workers.get(guest.name)
        if worker is None or worker.public_key != guest.key:
            return
        if isinstance(message, QiedError):
            self._log.error("a worker sent an invalid message", worker=worker.name, reason=str(message))
            return
        if isinstance(message, w.Attach):
            self._attach(worker, route, guest, message)
        elif worker.peer is not None and worker.peer.route == route:
            worker.heard_ms = self._awake.at(now_ms())
            self._from_attached(worker, worker.peer, message)

    def _attach(self, worker: Worker, route: bytes, guest: Guest, message: w.Attach) -> None:
        if worker.peer is not None and worker.process is not None:
            # What was under way on the old connection is lost, in both directions: only a fresh start is certain.
            self._log.warning("a worker reconnected, killing it", worker=worker.name)
            worker.process.kill()
            return
        worker.peer = Peer(route, guest, lambda answer: self._port.send(route, answer), now_ms())
        self._routes[route] = worker
        worker.heard_ms = self._awake.at(now_ms())
        worker.peer.send(w.Attached(message.id, timing.HEARTBEAT_MS, _SILENCE_MS))

    def _from_attached(self, worker: Worker, peer: Peer, message: m.Message) -> None:
        if self._transfers.handle(peer, message):
            return
        match message:
            case w.Loading(what, done, total):
                self.on_loading(what, done, total)
            case w.Offer():
                self._ready(worker, message)
            case w.Broken(code, text, remedy):
                worker.broken = from_code(code, text, remedy)
                self._hinder(worker, worker.broken)
                self._give_up(worker.broken)
            case w.Memory(own):
                worker.own_bytes, worker.highest_bytes = own, max(own, worker.highest_bytes or 0)
                self._withhold(worker, message)
            case w.Prepared(user, job):
                worker.preparing.discard((user, job))
                self._progressed(worker)
            case w.Stepped():
                self._progressed(worker)
                self._dispatcher.stepped(message)
            case w.EditFinished(user, job):
                worker.concluded((user, job))
                self._progressed(worker)
                self._spawn(self._dispatcher.finished(message))
            case w.EditFailed(user, job):
                worker.concluded((user, job))
                self._progressed(worker)
                self._spawn(self._dispatcher.failed(message))
            case _:
                pass

    def _ready(self, worker: Worker, offer: w.Offer) -> None:
        worker.offer, worker.condition, worker.failed_starts = offer, "ready", 0
        self._hinder(worker, None)
        self._log.info(
            "worker ready",
            worker=worker.name,
            device=offer.device,
            precision=offer.precision,
            budget_bytes=offer.budget_bytes,
            weights_bytes=offer.weights_bytes,
        )
        self._dispatcher.feed(
            s.WorkerReady(
                s.WorkerOffer(worker.name, offer.budget_bytes, offer.weights_bytes, offer.max_active, worker.order.kind)
            )
        )
        if not self._first_ready.done():
            self._first_ready.set_result(None)

    def _tell_of_surplus(self, worker: Worker, surplus_bytes: int) -> None:
        """Say once that other programs have left so much that a new plan would be a better one."""
        if worker.surplus_told or not surplus_is_worth_telling(worker.order.execution, surplus_bytes):
            return
        worker.surplus_told = True
        self._log.info(
            "more card memory is free than was planned with: a restart would keep more blocks on the card",
            worker=worker.name,
            more_bytes=surplus_bytes,
        )

    def _withhold(self, worker: Worker, memory: w.Memory) -> None:
        """Keep edits within the part of the budget that other programs leave."""
        if worker.offer is None:
            return
        self._tell_of_surplus(worker, memory.own_bytes + memory.free_bytes - worker.offer.budget_bytes)
        size = withheld_bytes(worker.offer.budget_bytes, memory.own_bytes, memory.free_bytes)
        if size == worker.withheld_bytes:
            return
        worker.withheld_bytes = size
        if size:
            worker.trouble = held_by_others(size)
            self._log.warning("other programs hold memory of the card", worker=worker.name, withheld_bytes=size)
        else:
            self._log.info("the card's memory is free again", worker=worker.name)
        self._hinder(worker, worker.trouble if size else None)
        self._dispatcher.feed(s.MemoryWithheld(worker.name, size))


def surplus_is_worth_telling(execution: Execution, surplus_bytes: int) -> bool:
    """Whether a plan that streams blocks could keep noticeably more of them, were it made now."""
    return execution.resident_blocks < execution.total_blocks and surplus_bytes >= _SURPLUS_BYTES


def withheld_bytes(budget: int, own: int, free: int) -> int:
    """Bytes of a worker's budget that others hold, in coarse steps, so that small changes do not matter.

    A process that has ``own`` bytes can grow by the ``free`` bytes; the rest of its ``budget`` is held by others.
    """
    missing = max(0, budget - own - free)
    return min(budget, -(-missing // _WITHHELD_STEP) * _WITHHELD_STEP)
