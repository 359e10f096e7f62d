"""One user meets limits over all connections together, and others neither notice that user nor learn anything."""

from __future__ import annotations

import itertools

import pytest
import zmq
from qied_client.credentials import read_credential
from qied_client.errors import QuotaExceeded
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.request import EditRequest
from qied_client.transfers import hash_of
from zmq.utils.monitor import recv_monitor_message

from tests.daemon.conftest import DaemonProcess, RawClient
from tests.daemon.test_housekeeping import MINUTE, let_pass

MIB = 1024 * 1024
CONNECTIONS, UPLOADS, KEPT, UNREAD = 6, 5, 3, 4 * MIB
STORE = 64 * MIB
SETTINGS = {
    "QIED_LIMITS_CONNECTIONS_PER_USER": str(CONNECTIONS),
    "QIED_LIMITS_UPLOADS_PER_CLIENT": "3",
    "QIED_LIMITS_UPLOADS_PER_USER": str(UPLOADS),
    "QIED_LIMITS_DOWNLOADS_PER_USER": "4",
    "QIED_LIMITS_TURNS_PER_SESSION": "1",
    "QIED_LIMITS_JOBS_KEPT_PER_USER": str(KEPT),
    "QIED_LIMITS_UNREAD_BYTES_PER_USER": str(UNREAD),
    "QIED_STORAGE_BLOB_BYTES": str(STORE),
}
_names = (f"user{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def daemon(daemon_process, tmp_path_factory):
    """One daemon for all tests, each of which has users of its own."""
    running = daemon_process(tmp_path_factory.mktemp("limits") / "home", **SETTINGS).start()
    yield running
    running.kill()


class User:
    """A user with as many connections as it opens."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.name = next(_names)
        self.key = daemon.enrol(self.name)
        self._daemon = daemon
        self._open: list[RawClient] = []

    def greeted(self) -> RawClient:
        return self.connect().hello()

    def connect(self) -> RawClient:
        self._open.append(self._daemon.raw(self.key))
        return self._open[-1]

    def leave(self) -> None:
        for raw in self._open:
            raw.send(m.Bye("done"))
            raw.__exit__()


@pytest.fixture
def make_user(daemon):
    users: list[User] = []

    def make() -> User:
        users.append(User(daemon))
        return users[-1]

    yield make
    for user in users:
        user.leave()


def put(raw: RawClient, data: bytes, size: int | None = None):
    return raw.ask(lambda n: m.Put(n, hash_of(data), len(data) if size is None else size))


def submit(raw: RawClient, job: str, blob: str, prompt: str = "x"):
    wanted = EditRequest((blob,), prompt, seed=1, steps=1, width=64, height=48)
    return raw.ask(lambda n: m.Submit(n, job, wanted, wanted.payload_hash()))


def refused(answer: m.Message) -> str:
    assert isinstance(answer, m.Failure), answer
    assert answer.code == "quota_exceeded"
    assert answer.remedy
    setting = str(answer.details["setting"])
    assert setting in answer.message
    return setting


def restart_later(daemon: DaemonProcess) -> None:
    """Start again at the same address, after so much time that pictures count as not used."""
    daemon.kill()
    daemon.listen = read_credential(daemon.key).endpoint
    let_pass(daemon.home, 2 * MINUTE)
    daemon.start()


def test_connections(daemon, make_user):
    many, other = make_user(), make_user()
    connected = [many.greeted() for _ in range(CONNECTIONS)]
    late = many.connect()
    answer = late.ask(lambda n: m.Hello(n, limits.MIN_VERSION, limits.VERSION, "raw"))
    assert refused(answer) == "limits.connections_per_user"
    late.wait_for_socket(zmq.EVENT_DISCONNECTED)
    with pytest.raises(QuotaExceeded), daemon.client(many.key, patience=0.1) as client:
        client.status()
    other.greeted()
    connected[0].hello()
    connected[0].send(m.Bye("done"))
    connected[0].wait_for_socket(zmq.EVENT_DISCONNECTED)
    many.greeted()


def test_uploads_and_announced_bytes(daemon, make_user, picture):
    greedy, other = make_user(), make_user()
    first, second = greedy.greeted(), greedy.greeted()
    sizes = [1] * (UPLOADS - 1) + [STORE // 2 - UPLOADS * 64 * 1024]
    for number, (raw, size) in enumerate(zip(itertools.cycle((first, second)), sizes, strict=False)):
        wanted = put(raw, f"{greedy.name} {number}".encode(), size)
        assert isinstance(wanted, m.Want)
        if raw is second:
            small = wanted.re
    assert refused(put(second, b"one more", 1)) == "limits.uploads_per_user"
    second.send(m.Drop(small))
    while isinstance(answer := put(second, b"large", 1 * MIB), m.Failure) and "uploads" in refused(answer):
        pass
    assert refused(answer) == "storage.user_share"
    with daemon.client(other.key) as client:
        assert client.edit(picture, "x", seed=1, steps=1, width=64, height=48).bytes


def test_what_is_sent_to_a_client_that_does_not_read_whatever_it_allows(make_user):
    user = make_user()
    raw, size = user.greeted(), 3 * UNREAD
    blob = raw.upload(bytes(size))
    for transfer in range(100, 104):
        raw.send(m.Get(transfer, blob))
    assert refused(user.greeted().ask(lambda n: m.Get(n, blob))) == "limits.downloads_per_user"
    received, questions = 0, []
    for _ in range(200):
        for transfer in range(100, 104):
            raw.send(m.More(transfer, 4))
        request = raw.next_id()
        raw.send(m.Status(request))
        while getattr(message := raw.receive(), "re", None) != request:
            received += len(message.data) if isinstance(message, m.Chunk) else 0
            questions += [message.nonce] if isinstance(message, m.Ping) else []
    assert received <= UNREAD
    for nonce in questions:
        raw.send(m.Pong(nonce))
    while received < 4 * size:
        message = raw.receive()
        if isinstance(message, m.Ping):
            raw.send(m.Pong(message.nonce))
        if isinstance(message, m.Chunk):
            received += len(message.data)
            raw.send(m.More(message.transfer, 1))


def test_finished_jobs_that_are_kept(make_user, picture, tmp_path):
    raw = make_user().greeted()
    blob, gate = raw.upload(picture), tmp_path / "gate"
    waiting = f"gate={gate}"
    for number in range(2 * KEPT):
        assert isinstance(submit(raw, f"never-{number}", blob, waiting), m.Accepted)
        assert raw.ask(lambda n, job=f"never-{number}": m.Cancel(n, job)).state == "cancelled"
    assert raw.ask(lambda n: m.Resume(n, "never-0")).code == "unknown_job"
    assert submit(raw, "never-0", blob, waiting).code == "unknown_job"
    assert isinstance(raw.ask(lambda n: m.Resume(n, f"never-{2 * KEPT - 1}")), m.Resumed)
    gate.touch()
    for number in range(KEPT):
        assert isinstance(submit(raw, f"done-{number}", blob), m.Accepted)
        raw.send(m.Resume(raw.next_id(), f"done-{number}"))
        while (result := raw.news(m.Result)).job != f"done-{number}":
            pass
        assert result.state == "succeeded"
    assert refused(submit(raw, "one-more", blob)) == "limits.jobs_kept_per_user"
    assert isinstance(raw.ask(lambda n: m.Release(n, "done-0")), m.Released)
    assert isinstance(submit(raw, "one-more", blob), m.Accepted)


def test_turns_of_a_session(make_user, picture):
    raw = make_user().greeted()
    blob = raw.upload(picture)
    raw.ask(lambda n: m.Open(n, "one", blob))
    wanted = EditRequest((), "x", seed=1, steps=1, width=64, height=48)
    first, second = (
        raw.ask(lambda n, job=job: m.Submit(n, job, wanted, wanted.payload_hash(), "one")) for job in ("a", "b")
    )
    assert first.turn == 1
    assert refused(second) == "limits.turns_per_session"


def test_nothing_tells_whether_somebody_has_a_picture(make_user):
    owner, curious = make_user().greeted(), make_user().greeted()
    owner.upload(b"a secret picture")
    assert isinstance(put(owner, b"a secret picture", 5), m.Want)
    for data in (b"a secret picture", b"a picture that was never here"):
        want = put(curious, data, 5)
        assert isinstance(want, m.Want)
        curious.send(m.Chunk(want.re, 0, 5, b"wrong"))
        failure = curious.answer(want.re)
        assert failure.code == "blob_mismatch"
        assert failure.message.replace(hash_of(data), "it") == "Blob it: the bytes do not match the hash."
        assert failure.details["size"] == 5


def test_faulty_messages_do_not_fill_the_log(daemon, make_user):
    user = make_user()
    raw = user.greeted()
    for _ in range(200):
        raw.send_frames(b"NONSENSE", b"")
        assert raw.news(m.Failure).code == "protocol_error"
    lines = [line for line in daemon.log if line["event"] == "refused a message" and line["user"] == user.name]
    assert 1 <= len(lines) <= 10


@pytest.mark.slow
def test_a_connection_that_says_no_hello_or_nothing_any_more_ends(make_user):
    silent, rude = make_user().greeted(), make_user().connect()
    ended = False
    while not ended:
        rude.send_frames(b"NONSENSE", b"")
        ended = rude._monitor.poll(500) and recv_monitor_message(rude._monitor)["event"] == zmq.EVENT_DISCONNECTED
    silent.wait_for_socket(zmq.EVENT_DISCONNECTED)


@pytest.mark.slow
def test_an_upload_on_a_full_store_removes_only_what_its_own_user_does_not_use(start_daemon):
    daemon = start_daemon(QIED_STORAGE_BLOB_BYTES=str(STORE))
    anna, mallory = daemon.enrol("anna"), daemon.enrol("mallory")
    pictures = [bytes([number]) * (20 * MIB) for number in range(3)]
    with daemon.raw(anna) as hers, daemon.raw(mallory) as theirs:
        hers.hello().upload(pictures[0])
        theirs.hello().upload(pictures[1])
    restart_later(daemon)

    with daemon.client(anna) as hers, daemon.raw(mallory) as theirs:
        theirs.hello().upload(pictures[2])
        assert theirs.ask(lambda n: m.Get(n, hash_of(pictures[1]))).code == "unknown_blob"
        assert refused(put(theirs, b"more", 13 * MIB)) == "storage.user_share"
        assert hers.download(hash_of(pictures[0])) == pictures[0]


@pytest.mark.slow
def test_a_job_takes_the_room_of_what_its_own_user_does_not_use(start_daemon, picture):
    daemon = start_daemon(QIED_STORAGE_BLOB_BYTES=str(STORE), QIED_STORAGE_USER_SHARE="0.01")
    small = [bytes([number]) for number in range(9)]
    with daemon.raw() as raw:
        raw.hello()
        for data in small:
            raw.upload(data)
    restart_later(daemon)
    with daemon.raw() as raw:
        blob = raw.hello().upload(picture)
        assert isinstance(put(raw, small[0]), m.Stored)
        assert isinstance(submit(raw, "one", blob), m.Accepted)
        assert raw.ask(lambda n: m.Get(n, hash_of(small[1]))).code == "unknown_blob"
        assert isinstance(put(raw, small[8]), m.Stored)
