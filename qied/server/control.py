"""The owner's orders to the daemon: pause and resume the queue, unload and load the model, stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from qied_client.errors import Busy
from qied_client.protocol import messages as m

from qied.scheduling import model as s
from qied.server.access.owner import require_owner
from qied.server.dispatcher import Dispatcher
from qied.server.jobs import JobBook
from qied.server.journal.changes import SetPaused
from qied.server.journal.journal import Journal
from qied.server.ports.peer import Peer

_WORDS = {
    "pause": "pause the queue",
    "resume": "resume the queue",
    "unload": "unload the model",
    "load": "load the model",
    "stop": "stop the daemon",
    "stop_when_done": "stop the daemon",
}
_LOOK_S = 0.05
_LOOK_AT_USERS_S = 1.0


class Control:
    """Carries orders out. ``on_stop`` is called to stop the daemon as SIGTERM does.

    ``finishing``: no job is accepted any more, and the daemon stops once none is left.
    """

    def __init__(self, journal: Journal, dispatcher: Dispatcher, jobs: JobBook) -> None:
        self._log = structlog.get_logger(part="control")
        self._journal = journal
        self._dispatcher = dispatcher
        self._jobs = jobs
        self._finish: asyncio.Task[None] | None = None
        self.on_stop: Callable[[], None] = lambda: None
        self.are_accepted: Callable[[], bool] = lambda: False

    @property
    def finishing(self) -> bool:
        """Whether the daemon stops when its jobs are done."""
        return self._finish is not None

    async def start(self, paused: bool, wanted: bool) -> None:
        """Pause the queue before anything starts, if it was ``paused`` or that is ``wanted`` now."""
        if wanted and not paused:
            await self._journal.apply(SetPaused(True))
        if wanted or paused:
            self._log.warning("the queue is paused", remedy="qied resume")
            self._dispatcher.feed(s.QueuePaused())

    async def obey(self, peer: Peer, message: m.Control) -> m.Controlled:
        """Carry out an order of the owner; raises NotPermitted to others, Busy where jobs are in the way."""
        require_owner(peer.user, _WORDS[message.action])
        self._log.info("ordered", action=message.action, user=peer.user)
        match message.action:
            case "pause":
                await self._journal.apply(SetPaused(True))
                self._dispatcher.feed(s.QueuePaused())
            case "resume":
                await self._journal.apply(SetPaused(False))
                self._dispatcher.feed(s.QueueResumed())
            case "unload":
                self._unload()
            case "load":
                self._dispatcher.feed(s.LoadRequested())
            case "stop":
                asyncio.get_running_loop().call_soon(self.on_stop)
            case "stop_when_done":
                self._stop_when_done()
        return m.Controlled(message.id, message.action, self._count("running"), self._count("waiting"))

    async def close(self) -> None:
        """Forget that the daemon was to stop later: it stops now."""
        if self._finish is not None:
            self._finish.cancel()
            await asyncio.gather(self._finish, return_exceptions=True)

    def _unload(self) -> None:
        """Unload the model, unless jobs would load it again at once."""
        running, waiting = self._count("running"), self._count("waiting")
        if (running or waiting) and not self._dispatcher.view().paused:
            raise Busy(
                f"{running} jobs run and {waiting} wait, so the model would be loaded again at once.",
                "Run 'qied pause' first; 'qied unload' then also stops jobs that run, and they start again later.",
                running=running,
                waiting=waiting,
            )
        self._dispatcher.feed(s.UnloadRequested())

    def _stop_when_done(self) -> None:
        if self._finish is not None:
            return
        waiting = self._count("waiting")
        if waiting and self._dispatcher.view().paused:
            raise Busy(
                f"The queue is paused and {waiting} jobs wait, so it would never be done.",
                "Run 'qied resume' first; 'qied stop' alone stops now, and the jobs run at the next start.",
                waiting=waiting,
            )
        self._finish = asyncio.create_task(self._stop_later(), name="stop when done")
        self._finish.add_done_callback(self._dispatcher.tell_if_broken)

    async def _stop_later(self) -> None:
        await self._jobs.none_left()
        while self.are_accepted():  # one was let through just before, and is on its way into the journal
            await asyncio.sleep(_LOOK_S)
            await self._jobs.none_left()
        self._log.info("the queue is done")
        self.on_stop()

    def _count(self, state: str) -> int:
        return sum(job.state == state for job in self._jobs)


async def watch_users(dispatcher: Dispatcher, connected: Callable[[], frozenset[str]]) -> None:
    """Tell the scheduler for ever whose clients are connected."""
    while True:
        await asyncio.sleep(_LOOK_AT_USERS_S)
        dispatcher.feed(s.UsersSeen(connected()))


async def watch_idle_workers(dispatcher: Dispatcher, idle_unload_s: int) -> None:
    """Let the scheduler look for idle workers for ever, often enough for ``idle_unload_s``."""
    while True:
        await asyncio.sleep(min(1.0, idle_unload_s / 4))
        dispatcher.feed(s.Tick())
