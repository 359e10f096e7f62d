"""The connection against a small honest daemon in memory, over a wire that may be cut at any moment."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from qied_client import connection as c
from qied_client.errors import QiedError, QuotaExceeded, UnknownBlob, UnknownJob
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.codec import decode, encode
from qied_client.protocol.roles import FROM_CLIENT, FROM_DAEMON
from qied_client.transfers import hash_of

CHUNK = limits.CHUNK_BYTES
HEARTBEAT_MS, SILENCE_MS = 500, 2_000
BLOBS = {
    hash_of(blob): blob for blob in (bytes([n]) * size for n, size in enumerate((1, CHUNK, CHUNK + 1, 6 * CHUNK + 3)))
}
HASHES = sorted(BLOBS)
COUNTS = st.sampled_from([1, 3, 1000])
REPEATABLE = (m.Failure, m.Stored, m.Cancelling, m.StatusReport, m.Resumed, m.Event, m.Result)


class Daemon:
    """What is kept across connections, and across restarts: blobs, begun uploads, and jobs with their numbered news."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.begun: dict[str, bytes] = {}
        self.incarnation = 1
        self.events: dict[str, list[m.Message]] = {}
        self.busy = False
        self.hang_up()

    def hang_up(self) -> None:
        for put, data, _ in getattr(self, "uploads", {}).values():
            self.begun[put.hash] = bytes(data)
        self.ready = False
        self.uploads: dict[int, Any] = {}
        self.downloads: dict[int, Any] = {}
        self.follows: set[str] = set()
        self.out: list[m.Message] = []

    def news(self, job: str, kind: str, gap: int) -> None:
        events = self.events.setdefault(job, [])
        if events and isinstance(events[-1], m.Result):
            return
        last = getattr(events[-1], "number", 0) if events else 0
        number = max(last, self.incarnation << 32) + gap
        message = m.Result(job, number, "succeeded") if kind == "result" else m.Event(job, number, kind)
        events.append(message)
        if job in self.follows:
            self.out.append(message)

    def take(self, message: m.Message) -> None:
        if isinstance(message, m.Hello):
            self.ready = True
            self.out.append(welcome(message.id))
            return
        assert self.ready, "HELLO comes first"
        try:
            self._answer(message)
        except QiedError as error:
            self.out.append(m.Failure.of(error, getattr(message, "id", None)))

    def _answer(self, message: m.Message) -> None:
        match message:
            case m.Put():
                self._put(message)
            case m.Chunk():
                self._chunk(message)
            case m.Get():
                self._get(message)
            case m.More(transfer, credit):
                if transfer in self.downloads:
                    self.downloads[transfer][2] += credit
                    self._pump(transfer)
            case m.Drop(transfer):
                self.uploads.pop(transfer, None)
                self.downloads.pop(transfer, None)
            case m.Ping(nonce):
                self.out.append(m.Pong(nonce))
            case m.Status(identifier):
                self._refuse_when_busy()
                self.out.append(m.StatusReport(identifier, "m", "bf16", 0, 1, 0, 0, 0, 0, 0, False, (), (), ()))
            case m.Cancel(identifier, job):
                self.out.append(m.Cancelling(identifier, job, "finished", "succeeded"))
            case m.Resume(identifier, job, after):
                self._resume(identifier, job, after)
            case _:
                raise AssertionError(f"not asked in this model: {message}")

    def _refuse_when_busy(self) -> None:
        if self.busy:
            raise QuotaExceeded("Too many requests.", "Wait.")

    def _resume(self, identifier: int, job: str, after: int) -> None:
        self._refuse_when_busy()
        if job not in self.events:
            raise UnknownJob("There is no such job.")
        events = self.events[job]
        self.out.append(m.Resumed(identifier, job, "running"))
        self.out += [event for event in events if getattr(event, "number", 0) > after]
        self.follows.add(job)

    def _put(self, put: m.Put) -> None:
        if put.hash in self.blobs:
            self.out.append(m.Stored(put.id, put.hash))
            return
        data = bytearray(self.begun.get(put.hash, b""))
        self.uploads[put.id] = [put, data, limits.CREDIT]
        self.out.append(m.Want(put.id, len(data), limits.CREDIT))

    def _chunk(self, chunk: m.Chunk) -> None:
        if chunk.transfer not in self.uploads:
            return
        upload = self.uploads[chunk.transfer]
        put, data, _ = upload
        upload[2] -= 1
        assert upload[2] >= 0, "a chunk came without credit"
        assert chunk.offset == len(data), "a chunk came out of order"
        assert chunk.total == put.size
        data += chunk.data
        if len(data) == put.size:
            assert hash_of(bytes(data)) == put.hash
            self.blobs[put.hash] = bytes(data)
            del self.uploads[put.id]
            self.out.append(m.Stored(put.id, put.hash))

    def acknowledge(self) -> None:
        for transfer, upload in self.uploads.items():
            if upload[2] < limits.CREDIT:
                self.out.append(m.More(transfer, limits.CREDIT - upload[2]))
                upload[2] = limits.CREDIT

    def _get(self, get: m.Get) -> None:
        if get.hash not in self.blobs:
            raise UnknownBlob("There is no such blob.")
        self.downloads[get.id] = [get.hash, get.offset, get.credit]
        self._pump(get.id)

    def _pump(self, transfer: int) -> None:
        blob_hash, offset, credit = self.downloads[transfer]
        blob = self.blobs[blob_hash]
        while credit and offset < len(blob):
            data = blob[offset : offset + CHUNK]
            self.out.append(m.Chunk(transfer, offset, len(blob), data))
            offset, credit = offset + len(data), credit - 1
        self.downloads[transfer] = [blob_hash, offset, credit]


def welcome(identifier: int) -> m.Welcome:
    return m.Welcome(
        re=identifier,
        version=1,
        software="model",
        user="ann",
        model="model",
        presets=(),
        heartbeat_ms=HEARTBEAT_MS,
        silence_ms=SILENCE_MS,
        chunk_bytes=CHUNK,
        credit=limits.CREDIT,
        blob_bytes=limits.BLOB_BYTES,
        max_images=3,
    )


class Wire(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.connection = c.Connection(lambda n: m.Hello(n, 1, 1, "test"), m.Welcome, FROM_DAEMON)
        self.daemon = Daemon()
        self.daemon.blobs[HASHES[0]] = BLOBS[HASHES[0]]
        self.to_daemon: list[list[bytes | memoryview]] = []
        self.now = 1_000
        self.connected = self.stutters = False
        self.asked: dict[int, str] = {}
        self.forgotten: set[int] = set()
        self.answers: Counter[int] = Counter()
        self.wanted: dict[int, str] = {}
        self.followed: set[str] = set()
        self.follow_ids: dict[int, str] = {}
        self.results: Counter[str] = Counter()
        self.numbers: dict[str, int] = {}

    # What an application does

    @initialize(connected=st.booleans())
    def begin(self, connected: bool) -> None:
        if connected:
            self.connect()
            self.run_smoothly()

    @rule(kind=st.sampled_from(["status", "cancel"]))
    def ask(self, kind: str) -> None:
        make = m.Status if kind == "status" else (lambda n: m.Cancel(n, "job-a"))
        self.asked[self.connection.request(make)] = kind

    @rule(blob_hash=st.sampled_from(HASHES))
    def upload(self, blob_hash: str) -> None:
        identifier = self.connection.upload(blob_hash, memoryview(BLOBS[blob_hash]))
        self.asked[identifier] = "upload"
        self.wanted[identifier] = blob_hash

    @rule(blob_hash=st.sampled_from(HASHES))
    def download(self, blob_hash: str) -> None:
        identifier = self.connection.download(blob_hash)
        self.asked[identifier] = "download"
        self.wanted[identifier] = blob_hash

    @rule(job=st.sampled_from(["job-a", "job-b", "job-c"]))
    def follow(self, job: str) -> None:
        if job not in self.followed:
            self.followed.add(job)
            identifier = self.connection.follow(job)
            self.asked[identifier] = "follow"
            self.follow_ids[identifier] = job

    @precondition(lambda self: bool(set(self.asked) - set(self.follow_ids)))
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        identifier = data.draw(st.sampled_from(sorted(set(self.asked) - set(self.follow_ids))))
        if not self.answers[identifier]:
            self.forgotten.add(identifier)
        self.connection.forget(identifier)

    # What happens on the way

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self) -> None:
        self.connected = True
        self.connection.connect(self.now)

    @precondition(lambda self: self.connected)
    @rule()
    def cut(self) -> None:
        self.connected = False
        self.to_daemon.clear()
        self.daemon.hang_up()
        self.connection.lost()

    @precondition(lambda self: self.connected)
    @rule()
    def restart_the_daemon(self) -> None:
        self.cut()
        self.daemon.incarnation += 1

    @rule(count=COUNTS)
    def deliver_to_daemon(self, count: int) -> None:
        self.to_daemon += self.connection.outgoing()
        for frames in self.to_daemon[:count]:
            if self.connected:
                self.daemon.take(decode(frames, FROM_CLIENT))
        del self.to_daemon[:count]

    @rule(count=COUNTS)
    def deliver_to_client(self, count: int) -> None:
        messages = self.daemon.out[:count]
        del self.daemon.out[:count]
        for message in messages:
            for _ in range(1 + (self.stutters and isinstance(message, REPEATABLE))):
                self.happened(self.connection.receive(encode(message), self.now))

    @rule(stutters=st.booleans())
    def stutter(self, stutters: bool) -> None:
        """From now on answers and news come twice."""
        self.stutters = stutters

    @rule()
    def run_smoothly(self) -> None:
        """Let messages pass until all is quiet."""
        for _ in range(6):
            self.deliver_to_daemon(1000)
            self.daemon.acknowledge()
            self.deliver_to_client(1000)

    @rule(ms=st.integers(0, SILENCE_MS + 10))
    def pass_time(self, ms: int) -> None:
        self.now += ms
        self.happened(self.connection.tick(self.now))

    @rule(job=st.sampled_from(["job-a", "job-b"]), kind=st.sampled_from(["step", "result"]), gap=st.integers(1, 5))
    def job_news(self, job: str, kind: str, gap: int) -> None:
        self.daemon.news(job, kind, gap)

    @rule(busy=st.booleans())
    def be_busy(self, busy: bool) -> None:
        self.daemon.busy = busy

    @precondition(lambda self: self.connected)
    @rule(frames=st.lists(st.binary(max_size=20), max_size=4))
    def garbage(self, frames: list[bytes]) -> None:
        (happening,) = self.connection.receive(frames, self.now)
        assert isinstance(happening, c.Unusable)
        self.cut()

    # What must hold

    def happened(self, happenings: list[c.Happening]) -> None:
        for happening in happenings:
            match happening:
                case c.Replied(identifier, message):
                    self.answered(identifier, False)
                    if isinstance(message, m.Stored):
                        assert self.daemon.blobs[self.wanted[identifier]] == BLOBS[self.wanted[identifier]]
                case c.Refused(identifier):
                    self.answered(identifier, True)
                case c.Downloaded(identifier, data):
                    assert data == BLOBS[self.wanted[identifier]]
                    self.answered(identifier, False)
                case c.Moved(_, done, total):
                    assert 0 <= done <= total
                case c.Pushed(message):
                    self.pushed(message)
                case c.Lost():
                    self.cut()
                    return
                case c.Ready():
                    assert self.connection.ready
                case c.Unusable(error):
                    raise AssertionError(f"an honest daemon was not understood: {error}")

    def answered(self, identifier: int, refused: bool) -> None:
        self.answers[identifier] += 1
        assert identifier not in self.forgotten
        if refused and identifier in self.follow_ids:
            self.followed.discard(self.follow_ids[identifier])

    def pushed(self, message: m.Message) -> None:
        assert isinstance(message, (m.Event, m.Result))
        assert message.job in self.followed
        assert message.number > self.numbers.get(message.job, 0)
        self.numbers[message.job] = message.number
        self.results[message.job] += isinstance(message, m.Result)

    @invariant()
    def nothing_is_answered_twice(self) -> None:
        assert all(count == 1 for count in self.answers.values())
        assert all(count <= 1 for count in self.results.values())

    def teardown(self) -> None:
        """Once the connection is back and the daemon has time, all is answered."""
        self.daemon.busy = False
        for job in list(self.daemon.events):
            self.daemon.news(job, "result", 1)
        for _ in range(10):
            if not self.connected:
                self.connect()
            self.run_smoothly()
            self.pass_time(1)
        assert set(self.answers) | self.forgotten >= set(self.asked)
        for job in self.followed:
            assert self.results[job] == 1, job
        assert not self.connection._requests
        assert not self.connection._senders
        assert not self.connection._receivers


TestConnection = Wire.TestCase
TestConnection.settings = settings(max_examples=200, stateful_step_count=40)


@pytest.fixture(autouse=True)
def _blobs_are_what_their_hashes_say() -> None:
    assert all(hash_of(blob) == blob_hash for blob_hash, blob in BLOBS.items())
