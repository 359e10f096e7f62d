"""The client's side of one connection as a state machine without I/O: frames and times in, frames and happenings out.

A driver calls ``connect`` over each fresh transport, feeds ``receive`` and ``tick``, sends what ``outgoing`` returns,
and calls ``lost`` when the transport is gone. The theory of operation is in the comment below.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from qied_client.awake_time import AwakeTime
from qied_client.errors import CapacityError, InvalidRequest, NotPermitted, ProtocolError, QiedError, VersionMismatch
from qied_client.protocol import messages as m
from qied_client.protocol import timing
from qied_client.protocol.codec import Registry, decode, encode
from qied_client.protocol.fields import FieldError, checked
from qied_client.transfers import Receiver, Sender, Source

Frames = list[bytes | memoryview]

# Theory of operation
#
# A connection outlives its transports. It has three states:
#
#     DOWN      no transport: at the beginning, and after lost()
#     GREETING  connect() was called and our greeting is on its way      (_hello_id is set, ready is False)
#     READY     the other side has answered the greeting                 (_hello_id is set, ready is True)
#
#                connect()               the welcome that answers our greeting
#     DOWN ----------------> GREETING ------------------------------------------> READY
#       ^                       |                                                   |
#       +-------- lost() -------+--------------------- lost() ----------------------+
#
# connect() leads to GREETING from everywhere. A connection never goes DOWN by itself: it returns Lost or Unusable, and
# the driver, which owns the transport, then calls lost() and, unless it gives up, connect(). Lost means that another
# transport may help: the other side said BYE, was silent for too long, or refused the greeting for now. Unusable means
# that none will: it refused the greeting for good (no common version, not this protocol), or it sent what cannot be
# decoded.
#
# In GREETING only the answer to the greeting, PING and BYE have an effect; everything else is ignored.
#
# Every request of the protocol can be repeated without harm. The rules below rest on that: a lost transport costs time,
# never an answer.
#
# Asking
#
#  1. A request is kept until it is answered, refused or forgotten. It is sent at once in READY; otherwise it waits.
#  2. On each welcome, all requests that are kept are sent again, oldest first, with the ids that they had. Ids are
#     never used twice, so an answer belongs to its request whichever transport brings it.
#  3. The first answer settles a request. An answer to an id that is not kept (settled, forgotten) is dropped.
#  4. What has no answer (say(): BYE, DROP, a worker's reports) is sent in READY and dropped otherwise. Frames that the
#     driver has not taken when the transport goes are dropped as well: rule 2 sends again what matters.
#
# Resuming
#
#  5. An upload goes on where the other side says: its PUT is sent again, and WANT names the offset.
#  6. A download goes on where we are: its GET is sent again with the offset of the bytes that we have.
#  7. The events of a job go on above the last number that we passed on. A RESUME that is still unanswered is sent again
#     with that number; a followed job without one gets a "quiet" RESUME, whose answer nobody waits for.
#  8. A quiet RESUME that is refused for lack of capacity is asked again at the next tick. Refused for any other reason,
#     it ends the job for us: we push a RESULT that says "failed" with that error.
#  9. An event is passed on if its job is followed and its number is above the last one; so none comes twice, whatever
#     is sent again. RESULT, unfollow() and a RESUME that is refused for good end the following.
#
# Credit
#
# 10. We send chunks only against credit: WANT sets it, MORE adds to it, up to 64 chunks at once.
# 11. For each chunk that we take, but the last, we allow one more by MORE; GET itself allows the first few.
# 12. A chunk that is out of order or too long, or that completes a blob with the wrong hash, ends its download: the
#     request is refused and the other side gets DROP. Forgetting a transfer sends DROP, too.
#
# Silence
#
# 13. Whatever arrives counts as heard, even if it cannot be decoded, and so does connect(). In GREETING and READY,
#     tick() reports Lost once nothing was heard for silence_ms. Between two ticks heartbeat_ms count at most: a driver
#     that was stopped for longer has not listened, so the next ticks show whether the other side is alive.
# 14. In READY, tick() sends PING every heartbeat_ms, however much else is sent or heard: the other side counts only
#     what reaches it. PING is answered by PONG at once, in GREETING as well. The welcome may set both times.


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
    """Nothing was received for too long, or the peer left: reconnect. ``error`` is why it refused the greeting."""

    reason: str
    error: QiedError | None = field(default=None, compare=False)


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
        self._awake = AwakeTime(timing.HEARTBEAT_MS, 0)
        self._heard_ms = 0
        self._asked_ms = 0
        self.heartbeat_ms = timing.HEARTBEAT_MS
        self.silence_ms = timing.SILENCE_MS

    # What the driver calls

    def connect(self, now_ms: int) -> None:
        """Start the handshake over a fresh transport."""
        self._out.clear()
        self.ready = False
        self._awake = AwakeTime(self.heartbeat_ms, now_ms)
        self._heard_ms = 0
        self._asked_ms = now_ms
        self._hello_id = self._take_id()
        self._send(self._greet(self._hello_id))

    def lost(self) -> None:
        """The transport is gone; unanswered requests are sent again after the next handshake."""
        self.ready = False
        self._hello_id = None
        self._out.clear()

    def receive(self, frames: Sequence[bytes | memoryview], now_ms: int) -> list[Happening]:
        """Take one message from the peer; never raises, whatever the frames hold."""
        self._heard_ms = self._awake.at(now_ms)
        try:
            return self._take(decode(frames, self._known))
        except QiedError as error:
            return [
                Unusable(ProtocolError(f"The peer sent something that the protocol does not allow: {error.message}"))
            ]

    def tick(self, now_ms: int) -> list[Happening]:
        """Let time pass: pings in every heartbeat, and reports a peer that has been silent for too long.

        It pings even while it receives: the peer counts only what reaches it.
        """
        if self._hello_id is None:
            return []
        quiet = self._awake.tick(now_ms) - self._heard_ms
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

        Raises InvalidRequest where a field of the message has a value that the protocol does not allow.
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
            self._awake.most_ms = self.heartbeat_ms
            self._ask_again()
            return [Ready(message)]
        if isinstance(message, m.Failure) and message.re == self._hello_id:
            error = message.error()
            fatal = isinstance(error, (VersionMismatch, ProtocolError, NotPermitted))
            return [Unusable(error)] if fatal else [Lost(error.message, error)]
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
