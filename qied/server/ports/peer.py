"""One connection as the front sees it: its client, whether it has said hello, its requests and transfers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog
from qied_client.errors import InternalError, QiedError
from qied_client.protocol.messages import Failure, Message

from qied.server.access.authentication import Guest
from qied.server.disk_failures import disk_failure
from qied.server.ports.account import Account, over_limit
from qied.server.ports.backlog import Backlog

_log = structlog.get_logger(part="peer")


@dataclass
class Peer:
    """A connection. ``transfers`` are its uploads and downloads by the client's id, which end with it.

    ``version`` is that of the protocol which both sides speak. ``account`` is shared by all connections of the user.
    ``heard_ms`` is when the last message came. ``speaks_for`` is the user for whom a gateway has said HELLO.

    Requests that have begun are finished even if the client is gone: memory must agree with the journal.
    """

    route: bytes
    guest: Guest
    send: Callable[[Message], int]
    heard_ms: int
    ready: bool = False
    version: int = 1
    speaks_for: str | None = None
    transfers: dict[int, Any] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    account: Account = field(default_factory=Account)
    backlog: Backlog = field(init=False)
    since_ms: int = field(init=False)

    def __post_init__(self) -> None:
        self.backlog = Backlog(self.account)
        self.since_ms = self.heard_ms

    @property
    def user(self) -> str:
        """Name of its client, or of the user for whom a gateway speaks."""
        return self.speaks_for or self.guest.name

    def speak_for(self, user: str, account: Account) -> None:
        """Count everything for a gateway's user from now on; only before the connection has anything under way."""
        self.backlog.close()
        self.account.connections -= 1
        self.speaks_for, self.account, self.backlog = user, account, Backlog(account)
        account.connections += 1

    def refuse(self, error: QiedError, re: int | None) -> None:
        """Answer a request with a typed error."""
        self.send(Failure.of(error, re))

    def spawn(self, request: int, work: Coroutine[Any, Any, Message | None]) -> None:
        """Answer a request in the background with what ``work`` returns or raises."""
        account, limits = self.account, self.account.limits
        refusal = None
        if len(self.tasks) >= limits.requests_per_client:
            things = "unanswered requests on this connection"
            refusal = over_limit("limits.requests_per_client", len(self.tasks), things, "Wait for their answers.")
        elif account.requests >= limits.requests_per_user:
            things = "unanswered requests on all your connections"
            refusal = over_limit("limits.requests_per_user", account.requests, things, "Wait for their answers.")
        if refusal is not None:
            work.close()
            self.refuse(refusal, request)
            return
        task = asyncio.create_task(self._answer(request, work))
        account.requests += 1
        self.tasks.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self.account.requests -= 1

    def gone(self) -> None:
        """End the transfers: the connection is no more."""
        self.ready = False
        for transfer in list(self.transfers.values()):
            transfer.abandon()
        self.transfers.clear()
        self.backlog.close()

    async def _answer(self, request: int, work: Coroutine[Any, Any, Message | None]) -> None:
        try:
            answer = await work
        except QiedError as error:
            self.refuse(error, request)
        except OSError as error:
            _log.exception("a request failed because of the disk", user=self.user)
            self.refuse(disk_failure("The daemon's disk failed", error), request)
        except Exception:
            _log.exception("a request failed because of a bug", user=self.user)
            self.refuse(
                InternalError("This request failed because of a bug in the daemon.", "See its log, and report it."),
                request,
            )
            raise
        else:
            if answer is not None:
                self.send(answer)
