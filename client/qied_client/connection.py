"""The client's side of one connection as a state machine without I/O: frames and times in, frames and happenings out.

Every request of protocol 1 can be repeated without harm, so the machine simply asks again for all that is unanswered
once it has reconnected: a lost connection costs time, never an answer. A driver feeds ``receive`` and ``tick``, sends
what ``outgoing`` returns, and calls ``lost`` when the transport is gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from qied_client.errors import CapacityError, InvalidRequest, ProtocolError, QiedError, VersionMismatch
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.codec import Registry, decode, encode
from qied_client.protocol.fields import FieldError, checked
from qied_client.transfers import Receiver, Sender, Source

Frames = list[bytes | memoryview]


@dataclass(frozen=True)
class Ready:
    """The handshake of the protocol is done."""

    welcome: m.Message


@dataclass(frozen=True)
class Replied:
    """Request ``id`` has its answer."""

    id: int
    message: m.Message


@dataclass(frozen=True)
class Refused:
    """Request ``id`` failed with a typed error."""

    id: int
    error: QiedError


@dataclass(frozen=True)
class Downloaded:
    """The blob of request ``id`` is here, its hash checked."""

    id: int
    data: bytes


@dataclass(frozen=True)
class Moved:
    """Transfer ``id`` has moved ``done`` of ``total`` bytes."""

    id: int
    done: int
    total: int


@dataclass(frozen=True)
class Pushed:
    """A message that answers no single request: EVENT, RESULT, or an order to a worker."""

    message: m.Message


@dataclass(frozen=True)
class Lost:
    """Nothing was received for too long, or the peer left: reconnect."""

    reason: str


@dataclass(frozen=True)
class Unusable:
    """This connection can never work: no common version, or the peer does not speak the protocol."""

    error: QiedError


Happening = Ready | Replied | Refused | Downloaded | Moved | Pushed | Lost | Unusable


class Connection:
    """See the module's docstring. Times are milliseconds of any monotonic clock."""

    def __init__(self, greet: Callable[[int], m.Message], welcome: type[m.Message], known: Registry) -> None:
        self._greet = greet
        self._welcome = welcome
        self._known = known
        self._next_id = 1
        self._hello_id: int | None = None
        self.ready = False
        self._requests: dict[int, m.Message] = {}
        self._senders: dict[int, Sender] = {}
        self._receivers: dict[int, Receiver] = {}
        self._followed: dict[str, int] = {}
        self._quiet_resumes: dict[int, str] = {}
        self._postponed: list[str] = []
        self._out: deque[Frames] = deque()
        self._heard_ms = 0
        self._asked_ms = 0
        self.heartbeat_ms = limits.HEARTBEAT_MS
        self.silence_ms = limits.SILENCE_MS

    # What the driver calls

    def connect(self, now_ms: int) -> None:
        """Start the handshake over a fresh transport."""
        self._out.clear()
        self.ready = False
        self._heard_ms = self._asked_ms = now_ms
        self._hello_id = self._take_id()
        self._send(self._greet(self._hello_id))

    def lost(self) -> None:
        """The transport is gone; unanswered requests are sent again after the next handshake."""
        self.ready = False
        self._hello_id = None
        self._out.clear()

    def receive(self, frames: Sequence[bytes | memoryview], now_ms: int) -> list[Happening]:
        """Take one message from the peer; never raises, whatever the frames hold."""
        self._heard_ms = now_ms
        try:
            return self._take(decode(frames, self._known))
        except QiedError as error:
            return [Unusable(ProtocolError(f"The peer sent something that protocol 1 does not allow: {error.message}"))]

    def tick(self, now_ms: int) -> list[Happening]:
        """Let time pass: pings in every heartbeat, and reports a peer that has been silent for too long.

        It pings even while it receives: the peer counts only what reaches it.
        """
        if self._hello_id is None:
            return []
        quiet = now_ms - self._heard_ms
        if quiet >= self.silence_ms:
            return [Lost(f"nothing was received for {quiet} ms")]
        postponed, self._postponed = self._postponed, []
        for job in postponed:
            self._resume_quietly(job)
        if self.ready and now_ms - self._asked_ms >= self.heartbeat_ms:
            self._asked_ms = now_ms
            self._send(m.Ping(now_ms))
        return []

    def outgoing(self) -> list[Frames]:
        """Frames to send now, in order; they are handed out once."""
        taken = list(self._out)
        self._out.clear()
        return taken

    # What the application calls

    def request(self, make: Callable[[int], m.Message]) -> int:
        """Ask for something; the message is sent now or after the next handshake, again after each. Returns its id.

        Raises InvalidRequest where a field of the message has a value that protocol 1 does not allow.
        """
        identifier = self._take_id()
        message = _allowed(make(identifier))
        self._requests[identifier] = message
        if self.ready:
            self._send(message)
        return identifier

    def upload(self, blob_hash: str, source: Source) -> int:
        """Offer a blob; answered by ``Stored``."""
        identifier = self.request(lambda n: m.Put(n, blob_hash, len(source)))
        self._senders[identifier] = Sender(identifier, source)
        return identifier

    def download(self, blob_hash: str) -> int:
        """Ask for a blob; answered by ``Downloaded``."""
        identifier = self.request(lambda n: m.Get(n, blob_hash))
        self._receivers[identifier] = Receiver(blob_hash)
        return identifier

    def follow(self, job: str, after: int = 0) -> int:
        """Ask for a job's events from a number on, across reconnections, until its result came."""
        identifier = self.request(lambda n: m.Resume(n, job, after))
        self._followed[job] = after
        return identifier

    def unfollow(self, job: str) -> None:
        """Stop passing on a job's events and asking for them after a reconnection."""
        self._followed.pop(job, None)

    def forget(self, identifier: int) -> None:
        """Give up a request: a late answer is ignored, and and a transfer is ended at the peer as well."""
        if self._requests.pop(identifier, None) is None:
            return
        if self._senders.pop(identifier, None) or self._receivers.pop(identifier, None):
            self.say(m.Drop(identifier))

    def say(self, message: m.Message) -> None:
        """Send a message that has no answer; dropped while there is no connection."""
        if self.ready:
            self._send(message)

    # Inside

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _send(self, message: m.Message) -> None:
        self._out.append(encode(message))

    def _take(self, message: m.Message) -> list[Happening]:
        if isinstance(message, m.Ping):
            self._send(m.Pong(message.nonce))
            return []
        if isinstance(message, m.Pong):
            return []
        if isinstance(message, m.Bye):
            return [Lost(message.reason or "the peer said goodbye")]
        if not self.ready:
            return self._greeted(message)
        if isinstance(message, m.Chunk):
            return self._chunk(message)
        if isinstance(message, m.More):
            return self._more(message)
        if isinstance(message, m.Want):
            return self._want(message)
        if isinstance(message, m.Failure):
            return self._failed(message)
        return self._reply_or_push(message)

    def _greeted(self, message: m.Message) -> list[Happening]:
        if isinstance(message, self._welcome) and getattr(message, "re", None) == self._hello_id:
            self.ready = True
            self.heartbeat_ms = getattr(message, "heartbeat_ms", self.heartbeat_ms)
            self.silence_ms = getattr(message, "silence_ms", self.silence_ms)
            self._ask_again()
            return [Ready(message)]
        if isinstance(message, m.Failure) and message.re == self._hello_id:
            error = message.error()
            fatal = isinstance(error, (VersionMismatch, ProtocolError))
            return [Unusable(error)] if fatal else [Lost(error.message)]
        return []

    def _ask_again(self) -> None:
        self._quiet_resumes.clear()
        self._postponed.clear()
        for identifier, message in self._requests.items():
            receiver = self._receivers.get(identifier)
            if receiver is not None and isinstance(message, m.Get):
                message = replace(message, offset=receiver.offset)  # noqa: PLW2901
            if isinstance(message, m.Resume):
                message = replace(message, after=self._followed.get(message.job, message.after))  # noqa: PLW2901
            self._send(message)
        asked = {message.job for message in self._requests.values() if isinstance(message, m.Resume)}
        for job in self._followed:
            if job not in asked:
                self._resume_quietly(job)

    def _resume_quietly(self, job: str) -> None:
        """Ask for the events of a job that is already followed: nothing waits for the answer itself."""
        if job in self._followed:
            identifier = self._take_id()
            self._quiet_resumes[identifier] = job
            self._send(m.Resume(identifier, job, self._followed[job]))

    def _chunk(self, chunk: m.Chunk) -> list[Happening]:
        receiver = self._receivers.get(chunk.transfer)
        if receiver is None:
            return []
        try:
            complete = receiver.take(chunk)
        except QiedError as error:
            self.forget(chunk.transfer)
            return [Refused(chunk.transfer, error)]
        moved = Moved(chunk.transfer, receiver.offset, chunk.total)
        if complete:
            self._settle(chunk.transfer)
            return [moved, Downloaded(chunk.transfer, bytes(receiver.data))]
        self._send(m.More(chunk.transfer, 1))
        return [moved]

    def _more(self, message: m.More) -> list[Happening]:
        sender = self._senders.get(message.transfer)
        if sender is None:
            return []
        sender.allow(message.credit)
        return self._feed(sender)

    def _want(self, message: m.Want) -> list[Happening]:
        sender = self._senders.get(message.re)
        if sender is None:
            return []
        try:
            sender.restart(message.offset, message.credit)
        except ProtocolError as error:
            self.forget(message.re)
            return [Refused(message.re, error)]
        return self._feed(sender)

    def _feed(self, sender: Sender) -> list[Happening]:
        for chunk in sender.chunks():
            self._send(chunk)
        return [Moved(sender.transfer, sender.offset, len(sender.source))]

    def _failed(self, message: m.Failure) -> list[Happening]:
        error = message.error()
        if message.re in self._quiet_resumes:
            job = self._quiet_resumes.pop(message.re)
            if isinstance(error, CapacityError):
                self._postponed.append(job)
                return []
            if self._followed.pop(job, None) is None:
                return []
            failed = m.Result(job, 2**62, "failed", code=error.code, message=error.message, remedy=error.remedy)
            return [Pushed(failed)]
        if message.re is None or message.re not in self._requests:
            return []
        request = self._settle(message.re)
        if isinstance(request, m.Resume):
            self._followed.pop(request.job, None)
        return [Refused(message.re, error)]

    def _reply_or_push(self, message: m.Message) -> list[Happening]:
        if isinstance(message, (m.Event, m.Result)):
            seen = self._followed.get(message.job)
            if seen is None or message.number <= seen:
                return []
            self._followed[message.job] = message.number
            if isinstance(message, m.Result):
                del self._followed[message.job]
            return [Pushed(message)]
        identifier = getattr(message, "re", None)
        if identifier is None:
            return [Pushed(message)]
        self._quiet_resumes.pop(identifier, None)
        if identifier not in self._requests:
            return []
        self._settle(identifier)
        return [Replied(identifier, message)]

    def _settle(self, identifier: int) -> m.Message | None:
        self._senders.pop(identifier, None)
        self._receivers.pop(identifier, None)
        return self._requests.pop(identifier, None)


def _allowed(message: m.Message) -> m.Message:
    try:
        return checked(message)
    except FieldError as error:
        path = error.path.removeprefix("request.")
        raise InvalidRequest(f"{path}: {error.problem}.", "Correct this field.", field=path) from None
