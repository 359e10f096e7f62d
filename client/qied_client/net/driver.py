"""Runs a connection over real sockets in asyncio: reconnects, keeps time, and turns happenings into futures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import zmq.asyncio

from qied_client import connection as c
from qied_client.awake_time import AwakeTime
from qied_client.errors import (
    CapacityError,
    CredentialsMissing,
    DaemonUnreachable,
    HandshakeRefused,
    InternalError,
    ProtocolError,
    QiedError,
    UnreachableError,
    VersionMismatch,
)
from qied_client.net.address import read_address
from qied_client.net.transport import REACHING, Endpoint, Transport, new_context, require_curve
from qied_client.protocol import messages as m
from qied_client.transfers import Source

_BACKOFF_S = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
_AT_ONCE_S = 1.0
"""Seconds after which an address that did not answer was silent, rather than refusing the connection."""
_REFUSALS = 3
"""Handshakes that must fail in a row to count as a refusal: a daemon that is being killed can look like one."""

OnMove = Callable[[int, int], None]


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Driver:
    """Owns one connection.

    ``patience_s`` is how long requests wait through an unreachable daemon before they fail, ``first_patience_s`` how
    long where none has ever answered; ``on_failure`` then hears the reason as well, for all that wait for pushed
    messages. ``on_absence`` hears True when a connection is lost, and False when there is one again.
    """

    def __init__(
        self,
        connection: c.Connection,
        endpoint: Callable[[], Endpoint],
        on_push: Callable[[m.Message], None],
        on_failure: Callable[[QiedError], None],
        patience_s: float,
        *,
        first_patience_s: float | None = None,
        on_absence: Callable[[bool], None] = lambda absent: None,
    ) -> None:
        self._connection = connection
        self._endpoint = endpoint
        self._on_push = on_push
        self._on_failure = on_failure
        self._on_absence = on_absence
        self._patience_s = patience_s
        self._first_patience_s = patience_s if first_patience_s is None else first_patience_s
        self._absent: bool | None = None
        self._context: zmq.asyncio.Context | None = None
        self._transport: Transport | None = None
        self._address = ""
        self._families: tuple[bool, ...] = (False,)
        self._family = 0
        self._futures: dict[int, asyncio.Future[Any]] = {}
        self._moves: dict[int, OnMove] = {}
        self._arrivals: set[asyncio.Future[m.Message]] = set()
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self._useless: asyncio.Future[QiedError] | None = None
        self._wanted = asyncio.Event()
        self._awake = AwakeTime(connection.heartbeat_ms, _now_ms())
        self._down_since_ms: int | None = None
        self._ready = asyncio.Event()
        self.welcome: m.Message | None = None

    async def start(self) -> m.Message:
        """Connect and return the greeting; raises UnreachableError, ProtocolError or VersionMismatch."""
        self._want()
        if self.welcome is not None:
            return self.welcome
        greeted: asyncio.Future[m.Message] = asyncio.get_running_loop().create_future()
        self._arrivals.add(greeted)
        try:
            return await greeted
        finally:
            self._arrivals.discard(greeted)

    async def close(self) -> None:
        """Say goodbye and close the sockets; unanswered requests fail. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._connection.say(m.Bye("client closed"))
        self._flush()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._fail_all(closed_error())
        if self._context is not None:
            self._context.destroy(linger=0)

    async def ask(self, make: Callable[[int], m.Message]) -> Any:
        """Send a request and wait for its answer; raises the typed error of a refusal."""
        return await self._wait(self._connection.request(make))

    async def upload(self, blob_hash: str, source: Source, on_move: OnMove | None = None) -> None:
        """Upload a blob, unless the daemon already has it."""
        await self._wait(self._connection.upload(blob_hash, source), on_move)

    async def download(self, blob_hash: str, on_move: OnMove | None = None) -> bytes:
        """Fetch a blob; its hash has been checked."""
        data: bytes = await self._wait(self._connection.download(blob_hash), on_move)
        return data

    async def follow(self, job: str, after: int = 0) -> m.Resumed:
        """Have the events of a job pushed from now on, across reconnections."""
        answer: m.Resumed = await self._wait(self._connection.follow(job, after))
        return answer

    def unfollow(self, job: str) -> None:
        """No longer ask for a job's events."""
        self._connection.unfollow(job)

    def say(self, message: m.Message) -> None:
        """Send a message that has no answer; lost while there is no connection."""
        self._connection.say(message)
        self._flush()

    async def _wait(self, identifier: int, on_move: OnMove | None = None) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._futures[identifier] = future
        if on_move is not None:
            self._moves[identifier] = on_move
        try:
            self._want()
            self._flush()
            return await future
        finally:
            self._futures.pop(identifier, None)
            self._moves.pop(identifier, None)
            self._connection.forget(identifier)
            self._flush()

    # The life of the connection

    def _want(self) -> None:
        """Make sure that the connection is up or coming up, also after it was given up."""
        if self._closed:
            raise closed_error()
        require_curve()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="qied connection")
            self._task.add_done_callback(self._ended)
        self._wanted.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """If a bug ended the task, fail everything that waits for it."""
        defect = None if task.cancelled() else task.exception()
        if defect is not None:
            self._task = None
            self.welcome = None
            self._connection.lost()
            failure = InternalError(f"The connection ended because of a bug in the client: {defect!r}.", "Report it.")
            failure.__cause__ = defect
            self._fail_all(failure)

    async def _run(self) -> None:
        attempt = refusals = 0
        while True:
            if self._down_since_ms is None:
                self._down_since_ms = self._awake.tick(_now_ms())
            try:
                reason = await self._converse()
            except QiedError as error:
                reason = error
            greeted = self._ready.is_set()
            if greeted:
                attempt = refusals = 0
                self._down_since_ms = self._awake.tick(_now_ms())
                self._absent = True
                self._on_absence(True)
            self._ready.clear()
            self._connection.lost()
            refusals = refusals + 1 if isinstance(reason, HandshakeRefused) else 0
            if not greeted and self._has_another_family(reason):
                continue
            await self._judge(reason, refusals)
            await asyncio.sleep(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)])
            attempt += 1

    def _has_another_family(self, reason: QiedError) -> bool:
        """Whether nothing answered, but the name may stand for an address of the other family as well."""
        if not isinstance(reason, DaemonUnreachable):
            return False
        self._family += 1
        return self._family % len(self._families) != 0 and self._down_s() < max(self._patience(), _AT_ONCE_S)

    def _patience(self) -> float:
        return self._first_patience_s if self._absent is None else self._patience_s

    def _down_s(self) -> float:
        return (self._awake.tick(_now_ms()) - (self._down_since_ms or 0)) / 1000

    async def _judge(self, reason: QiedError, refusals: int) -> None:
        """Fail what waits once waiting longer is pointless, then rest until something is wanted again.

        A pause of this program itself costs no patience: nothing was tried meanwhile.
        """
        passing = isinstance(reason, (UnreachableError, CapacityError))
        final = not passing or isinstance(reason, (CredentialsMissing, VersionMismatch))
        if not final and refusals < _REFUSALS and self._down_s() < self._patience():
            return
        self.welcome = None
        self._wanted.clear()
        self._fail_all(reason)
        await self._wanted.wait()
        self._down_since_ms = None

    async def _converse(self) -> QiedError:
        """Talk over one transport until it is no longer usable; returns why."""
        self._context = self._context or new_context()
        endpoint = self._endpoint()
        self._address, self._families = endpoint.address, _families(endpoint.address)
        ipv6 = self._families[self._family % len(self._families)]
        self._transport = transport = Transport(self._context, endpoint, ipv6=ipv6)
        self._useless = asyncio.get_running_loop().create_future()
        self._connection.connect(_now_ms())
        tasks = [
            asyncio.ensure_future(transport.watch_handshake()),
            asyncio.ensure_future(self._listen(transport)),
            asyncio.ensure_future(self._keep_time()),
        ]
        try:
            self._flush()
            await asyncio.wait([*tasks, self._useless], return_when=asyncio.FIRST_COMPLETED)
            finished = self._useless if self._useless.done() else next(task for task in tasks if task.done())
            return finished.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._transport = None
            self._useless = None
            transport.close()

    async def _listen(self, transport: Transport) -> QiedError:
        while True:
            frames = await transport.receive()
            self._handle(self._connection.receive(frames, _now_ms()))
            self._flush()

    async def _keep_time(self) -> QiedError:
        while True:
            await asyncio.sleep(self._connection.heartbeat_ms / 2000)
            self._awake.tick(_now_ms())
            self._handle(self._connection.tick(_now_ms()))
            self._flush()

    def _flush(self) -> None:
        if self._transport is None:
            return
        for frames in self._connection.outgoing():
            try:
                self._transport.send(frames)
            except ProtocolError as error:
                self._give_up(DaemonUnreachable(error.message))
                return

    def _give_up(self, reason: QiedError) -> None:
        if self._useless is not None and not self._useless.done():
            self._useless.set_result(reason)

    def _handle(self, happenings: list[c.Happening]) -> None:
        for happening in happenings:
            match happening:
                case c.Ready(welcome):
                    self.welcome = welcome
                    self._ready.set()
                    self._down_since_ms = None
                    if self._absent:
                        self._on_absence(False)
                    self._absent = False
                    for arrival in self._arrivals:
                        _settle(arrival, welcome)
                case c.Replied(identifier, message):
                    self._resolve(identifier, message)
                case c.Downloaded(identifier, data):
                    self._resolve(identifier, data)
                case c.Refused(identifier, error):
                    self._reject(identifier, error)
                case c.Moved(identifier, done, total):
                    self._moved(identifier, done, total)
                case c.Pushed(message):
                    self._on_push(message)
                case c.Lost(reason, error):
                    self._give_up(error or self._lost(reason))
                case c.Unusable(error):
                    self._give_up(error)

    def _lost(self, reason: str) -> DaemonUnreachable:
        """One that was never there was not lost: a firewall that drops packets, say."""
        if self._ready.is_set():
            return DaemonUnreachable(f"The connection to {self._address} was lost: {reason}.", REACHING)
        return DaemonUnreachable(f"The daemon at {self._address} could not be reached: {reason}.", REACHING)

    def _moved(self, identifier: int, done: int, total: int) -> None:
        move = self._moves.get(identifier)
        if move is None:
            return
        try:
            move(done, total)
        except Exception as error:  # noqa: BLE001 - the caller's own code: its error is the caller's, not the connection's
            self._moves.pop(identifier)
            self._reject(identifier, error)

    def _resolve(self, identifier: int, value: object) -> None:
        future = self._futures.get(identifier)
        if future is not None:
            _settle(future, value)

    def _reject(self, identifier: int, error: Exception) -> None:
        future = self._futures.get(identifier)
        if future is not None and not future.done():
            future.set_exception(error)

    def _fail_all(self, error: QiedError) -> None:
        for identifier in list(self._futures):
            self._reject(identifier, error)
            self._futures.pop(identifier, None)
        for arrival in self._arrivals:
            if not arrival.done():
                arrival.set_exception(error)
        self._on_failure(error)


def _families(address: str) -> tuple[bool, ...]:
    try:
        return read_address(address).families
    except ValueError:  # the transport says so
        return (False,)


def _settle(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)


def closed_error() -> DaemonUnreachable:
    """The error of calls after closing."""
    return DaemonUnreachable("The client was closed.", "Create a new one.")
