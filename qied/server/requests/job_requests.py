"""RESUME, CANCEL and RELEASE: requests about one job that was accepted."""

from __future__ import annotations

import structlog
from qied_client.errors import InvalidRequest
from qied_client.protocol import messages as m

from qied.scheduling.model import JobKey
from qied.server.access.owner import require_owner
from qied.server.ports.peer import Peer
from qied.server.requests.front_services import FrontServices


class JobRequests:
    """Follows, cancels and releases jobs."""

    def __init__(self, desk: FrontServices) -> None:
        self._log = structlog.get_logger(part="requests")
        self._desk = desk

    async def resume(self, peer: Peer, message: m.Resume) -> m.Message | None:
        """Send what has happened and will happen to a job; raises UnknownJob."""
        job = self._desk.releases.job(JobKey(peer.user, message.job))
        peer.send(m.Resumed(message.id, message.job, job.state))
        self._desk.jobs.follow(job, peer, message.after)
        return None

    async def cancel(self, peer: Peer, message: m.Cancel) -> m.Message:
        """Stop a job; raises UnknownJob, NotPermitted."""
        others = message.user is not None and message.user != peer.user
        if others:
            require_owner(peer.user, "cancel the jobs of others")
        job = self._desk.releases.job(JobKey(message.user or peer.user, message.job), asked_by=peer.user)
        if not job.finished:
            if others:
                self._log.info("the owner cancels a job", user=job.key.user, job=job.key.job)
            await self._desk.dispatcher.cancel(job, by=" by the owner of the machine" if others else "")
        answer = "cancelled" if job.state == "cancelled" else "finished"
        return m.Cancelling(message.id, message.job, answer, job.state)

    async def release(self, peer: Peer, message: m.Release) -> m.Message:
        """Forget a finished job, or with ``keep`` only mark it as fetched; raises UnknownJob, InvalidRequest."""
        key, releases = JobKey(peer.user, message.job), self._desk.releases
        if self._desk.jobs.get(key) is None and key in releases.tombstones:
            return m.Released(message.id, message.job)
        job = releases.job(key)
        if not job.finished:
            raise InvalidRequest("job: it has not finished.", "Cancel it first, or wait.", field="job")
        if message.keep and self._desk.config.storage.fetched_hours > 0:
            await releases.mark_fetched(job)
        else:
            await releases.forget(job)
        return m.Released(message.id, message.job)
