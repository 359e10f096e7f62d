"""Each request to its handler, in the background where it takes time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import structlog
from qied_client.protocol import messages as m

from qied.server.access.owner import require_owner
from qied.server.named_locks import NamedLocks
from qied.server.ports.peer import Peer
from qied.server.requests.describing import description, lora_list, plans_of, upscaler_list
from qied.server.requests.front_services import FrontServices
from qied.server.requests.job_requests import JobRequests
from qied.server.requests.listing import UserLists
from qied.server.requests.picture_sizes import PictureSizes
from qied.server.requests.quoting import quote
from qied.server.requests.session_requests import SessionRequests
from qied.server.requests.submitting import Submissions


class Requests:
    """All requests but transfers."""

    def __init__(self, desk: FrontServices, first_order: int) -> None:
        self._log = structlog.get_logger(part="requests")
        self._desk = desk
        sizes = PictureSizes(desk.store, desk.executor, desk.config.limits.picture_pixels)
        locks = NamedLocks()
        self.submissions = Submissions(desk, locks, sizes, first_order)
        self._jobs = JobRequests(desk)
        self._sessions = SessionRequests(desk, locks, sizes)
        self._lists = UserLists(desk)

    def handle(self, peer: Peer, message: m.Message) -> None:
        """Answer one request."""
        match message:
            case m.Quote():
                peer.spawn(message.id, quote(self._desk, message))
            case m.Submit():
                peer.spawn(message.id, self.submissions.submit(peer, message))
            case m.Resume():
                peer.spawn(message.id, self._jobs.resume(peer, message))
            case m.Cancel():
                peer.spawn(message.id, self._jobs.cancel(peer, message))
            case m.Release():
                peer.spawn(message.id, self._jobs.release(peer, message))
            case m.Control():
                peer.spawn(message.id, self._control(peer, message))
            case m.Status(everyone=True):
                peer.spawn(message.id, self._report_all(peer, message))
            case m.Status():
                peer.send(self._desk.report(message.id, peer.user, False))
            case _:
                self._handle_session(peer, message)

    def _handle_session(self, peer: Peer, message: m.Message) -> None:
        match message:
            case m.Open():
                peer.spawn(message.id, self._sessions.open(peer, message))
            case m.Undo():
                peer.spawn(message.id, self._sessions.undo(peer, message))
            case m.Redo():
                peer.spawn(message.id, self._sessions.redo(peer, message))
            case m.History():
                peer.spawn(message.id, self._sessions.history(peer, message))
            case m.Close():
                peer.spawn(message.id, self._sessions.close(peer, message))
            case _:
                self._handle_list(peer, message)

    def _handle_list(self, peer: Peer, message: m.Message) -> None:
        match message:
            case m.ListJobs():
                peer.send(self._lists.jobs(peer.user, message))
            case m.Fetch():
                peer.spawn(message.id, self._lists.fetch(peer.user, message))
            case m.ListSessions():
                peer.spawn(message.id, self._lists.sessions(peer.user, message))
            case m.ListTurns():
                peer.spawn(message.id, self._lists.turns(peer.user, message))
            case m.Describe():
                peer.spawn(message.id, self._describe(peer, message))
            case m.Metrics():
                peer.spawn(message.id, self._metrics(peer, message))
            case m.ListLoras():
                peer.send(lora_list(message.id, self._desk.serving.loras, message.after))
            case m.ListUpscalers():
                peer.send(upscaler_list(message.id, self._desk.serving, message.after))

    async def _describe(self, peer: Peer, message: m.Describe) -> m.Message:
        if message.plans:
            require_owner(peer.user, "see the plan of the workers")
        desk = self._desk
        described = description(message.id, desk.serving, desk.config, desk.dispatcher.pace.edit_ms)
        return replace(described, plans=plans_of(desk.serving)) if message.plans else described

    async def _metrics(self, peer: Peer, message: m.Metrics) -> m.Message:
        require_owner(peer.user, "see the daemon's figures")
        return m.MetricsText(message.id, await asyncio.to_thread(self._desk.metrics))

    async def _report_all(self, peer: Peer, message: m.Status) -> m.Message:
        require_owner(peer.user, "see the jobs of everyone")
        self._log.info("showed everyone's jobs", user=peer.user)
        return self._desk.report(message.id, peer.user, True)

    async def _control(self, peer: Peer, message: m.Control) -> m.Message:
        return await self._desk.control(peer, message)
