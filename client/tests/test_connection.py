from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qied_client import connection as c
from qied_client.errors import (
    BlobMismatch,
    InvalidRequest,
    ProtocolError,
    QuotaExceeded,
    ShuttingDown,
    UnknownJob,
    VersionMismatch,
)
from qied_client.protocol import limits, timing
from qied_client.protocol import messages as m
from qied_client.protocol.codec import decode, encode
from qied_client.protocol.roles import FROM_CLIENT, FROM_DAEMON
from qied_client.transfers import hash_of

HEARTBEAT_MS, SILENCE_MS = 500, 2_000
WELCOME = m.Welcome(1, 1, "d", "ann", "model", (), HEARTBEAT_MS, SILENCE_MS, 1, 4, 1, 3)
BLOB = bytes(range(256)) * 4096


class Talk:
    """A connection with the other side played by hand."""

    def __init__(self) -> None:
        self.connection = c.Connection(lambda n: m.Hello(n, 1, 1, "test"), m.Welcome, FROM_DAEMON)
        self.now = 0

    def connect(self) -> "Talk":
        self.connection.lost()
        self.connection.connect(self.now)
        (hello,) = self.sent()
        assert isinstance(hello, m.Hello)
        values = {**vars(WELCOME), "re": hello.id}
        (ready,) = self.hear(m.Welcome(**values))
        assert ready == c.Ready(m.Welcome(**values))
        return self

    def sent(self) -> list[m.Message]:
        return [decode(frames, FROM_CLIENT) for frames in self.connection.outgoing()]

    def hear(self, message: m.Message) -> list[c.Happening]:
        return self.connection.receive(encode(message), self.now)

    def refuse(self, identifier: int, error: Any) -> list[c.Happening]:
        return self.hear(m.Failure.of(error, identifier))

    def wait(self, ms: int) -> list[c.Happening]:
        self.now += ms
        return self.connection.tick(self.now)

    def watch(self, ms: int) -> list[c.Happening]:
        """Wait as a driver does, which ticks all the time."""
        happenings: list[c.Happening] = []
        while ms > 0:
            happenings += self.wait(min(ms, HEARTBEAT_MS // 2))
            ms -= HEARTBEAT_MS // 2
        return happenings


@pytest.fixture
def talk() -> Talk:
    return Talk().connect()


def report(identifier: int) -> m.StatusReport:
    return m.StatusReport(identifier, "m", "bf16", 0, 0, 0, 0, 0, 0, 0, False, (), (), ())


# The handshake


def test_what_is_asked_before_the_handshake_is_sent_after_it() -> None:
    talk = Talk()
    identifier = talk.connection.request(m.Status)
    assert talk.connect().sent() == [m.Status(identifier)]


def test_nothing_counts_before_the_welcome() -> None:
    talk = Talk()
    talk.connection.connect(0)
    identifier = talk.connection.request(m.Status)
    talk.connection.follow("job")
    for message in (report(identifier), m.Event("job", 1, "step"), m.Welcome(**{**vars(WELCOME), "re": 99})):
        assert talk.hear(message) == []
    assert not talk.connection.ready


def test_no_common_version_makes_the_connection_unusable() -> None:
    talk = Talk()
    talk.connection.connect(0)
    (hello,) = talk.sent()
    (happening,) = talk.refuse(hello.id, VersionMismatch("Protocol 2 to 3.", "Upgrade."))  # type: ignore[attr-defined]
    assert isinstance(happening, c.Unusable)
    assert isinstance(happening.error, VersionMismatch)
    assert happening.error.remedy == "Upgrade."


def test_a_daemon_that_is_stopping_loses_the_connection_but_does_not_make_it_unusable() -> None:
    talk = Talk()
    talk.connection.connect(0)
    (hello,) = talk.sent()
    assert talk.refuse(hello.id, ShuttingDown("Stopping.")) == [c.Lost("Stopping.")]  # type: ignore[attr-defined]


def test_a_handshake_without_an_answer_is_lost() -> None:
    talk = Talk()
    talk.connection.connect(0)
    assert talk.watch(timing.SILENCE_MS - 1) == []
    assert isinstance(talk.wait(1)[0], c.Lost)


def test_goodbye_means_lost(talk: Talk) -> None:
    assert talk.hear(m.Bye("The daemon stops.")) == [c.Lost("The daemon stops.")]
    assert talk.hear(m.Bye()) == [c.Lost("the peer said goodbye")]


# Heartbeats


def test_a_quiet_peer_is_pinged_and_a_silent_one_is_lost(talk: Talk) -> None:
    assert talk.wait(HEARTBEAT_MS - 1) == []
    assert talk.sent() == []
    assert talk.wait(1) == []
    (ping,) = talk.sent()
    assert isinstance(ping, m.Ping)
    assert talk.wait(1) == []
    assert talk.sent() == []
    assert talk.watch(SILENCE_MS - HEARTBEAT_MS - 2) == []
    assert talk.wait(1) == [c.Lost(f"nothing was received for {SILENCE_MS} ms")]


def test_a_pause_of_this_side_is_no_silence_of_the_other(talk: Talk) -> None:
    assert talk.wait(100 * SILENCE_MS) == []
    assert any(isinstance(message, m.Ping) for message in talk.sent())
    talk.hear(m.Pong(1))
    assert talk.watch(SILENCE_MS - 1) == []
    assert talk.wait(1) == [c.Lost(f"nothing was received for {SILENCE_MS} ms")]


@pytest.mark.parametrize("message", [m.Pong(1), m.Ping(1), m.Event("job", 1, "step"), report(99)], ids=str)
def test_any_traffic_is_a_sign_of_life(talk: Talk, message: m.Message) -> None:
    for _ in range(5):
        assert talk.watch(SILENCE_MS - 1) == []
        talk.hear(message)


def test_a_peer_that_talks_all_the_time_is_pinged_too_since_it_counts_what_reaches_it(talk: Talk) -> None:
    pings = 0
    for number in range(40):
        talk.hear(m.Event("someone-elses", number, "step"))
        assert talk.wait(HEARTBEAT_MS // 4) == []
        pings += sum(isinstance(message, m.Ping) for message in talk.sent())
    assert pings >= 9


def test_a_ping_is_answered_with_its_nonce(talk: Talk) -> None:
    talk.hear(m.Ping(17))
    assert talk.sent() == [m.Pong(17)]


def test_time_does_nothing_without_a_transport(talk: Talk) -> None:
    talk.connection.lost()
    assert talk.wait(10 * SILENCE_MS) == []


# Requests


def test_a_request_is_answered_once(talk: Talk) -> None:
    identifier = talk.connection.request(m.Status)
    assert talk.hear(report(identifier)) == [c.Replied(identifier, report(identifier))]
    assert talk.hear(report(identifier)) == []
    assert talk.refuse(identifier, QuotaExceeded("x")) == []


def test_a_refusal_is_a_typed_error(talk: Talk) -> None:
    identifier = talk.connection.request(lambda n: m.Cancel(n, "job"))
    (happening,) = talk.refuse(identifier, UnknownJob("There is no such job.", "Look at ps.", job="job"))
    assert isinstance(happening, c.Refused)
    assert type(happening.error) is UnknownJob
    assert happening.error.details == {"job": "job"}


def test_a_late_answer_to_what_was_given_up_is_ignored(talk: Talk) -> None:
    identifier = talk.connection.request(m.Status)
    talk.sent()
    talk.connection.forget(identifier)
    assert talk.sent() == []
    assert talk.hear(report(identifier)) == []
    assert talk.connect().sent() == []


def test_a_request_is_repeated_after_each_reconnection_until_it_is_answered(talk: Talk) -> None:
    identifier = talk.connection.request(m.Status)
    assert talk.sent() == [m.Status(identifier)]
    for _ in range(3):
        assert talk.connect().sent() == [m.Status(identifier)]
    talk.hear(report(identifier))
    assert talk.connect().sent() == []


def test_what_was_not_yet_sent_when_the_transport_broke_is_sent_once(talk: Talk) -> None:
    identifier = talk.connection.request(m.Status)
    assert talk.connect().sent() == [m.Status(identifier)]


@pytest.mark.parametrize("job", ["", "a b", "ä", "a\udcff", "x" * 65, None, 7])
def test_a_request_that_protocol_1_does_not_have_is_refused_here_and_never_sent(talk: Talk, job: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        talk.connection.request(lambda n: m.Cancel(n, job))
    assert caught.value.details == {"field": "job"}
    with pytest.raises(InvalidRequest):
        talk.connection.follow(job)
    assert talk.sent() == []
    assert talk.connect().sent() == []


def test_what_is_said_without_a_connection_is_dropped(talk: Talk) -> None:
    talk.connection.lost()
    talk.connection.say(m.Bye())
    assert talk.connect().sent() == []


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_garbage_is_unusable_and_never_raises(frames: list[bytes]) -> None:
    (happening,) = Talk().connect().connection.receive(frames, 0)
    assert isinstance(happening, c.Unusable)
    assert isinstance(happening.error, ProtocolError)


def test_deeply_nested_garbage_is_unusable(talk: Talk) -> None:
    for depth in (900, 1000, 1020, 16_000):
        (happening,) = talk.connection.receive([b"PONG", b"\x81\xa5nonce" + b"\x91" * depth + b"\x01"], 0)
        assert isinstance(happening, c.Unusable)


# Transfers


def upload(talk: Talk) -> tuple[int, str]:
    blob_hash = hash_of(BLOB)
    identifier = talk.connection.upload(blob_hash, memoryview(BLOB))
    assert talk.sent() == [m.Put(identifier, blob_hash, len(BLOB))]
    return identifier, blob_hash


def test_an_upload_keeps_to_the_credit(talk: Talk) -> None:
    identifier, blob_hash = upload(talk)
    talk.hear(m.Want(identifier, 0, 2))
    assert [chunk.offset for chunk in talk.sent()] == [0, limits.CHUNK_BYTES]  # type: ignore[attr-defined]
    (moved,) = talk.hear(m.More(identifier, 1))
    assert moved == c.Moved(identifier, 3 * limits.CHUNK_BYTES, len(BLOB))
    assert len(talk.sent()) == 1
    assert talk.hear(m.Stored(identifier, blob_hash))[0] == c.Replied(identifier, m.Stored(identifier, blob_hash))
    assert talk.hear(m.More(identifier, 4)) == []
    assert talk.sent() == []


def test_an_upload_goes_on_where_the_daemon_wants_it_after_a_reconnection(talk: Talk) -> None:
    identifier, blob_hash = upload(talk)
    talk.hear(m.Want(identifier, 0, 4))
    assert talk.connect().sent() == [m.Put(identifier, blob_hash, len(BLOB))]
    talk.hear(m.Want(identifier, 3 * limits.CHUNK_BYTES, 4))
    (last,) = talk.sent()
    assert last == m.Chunk(identifier, 3 * limits.CHUNK_BYTES, len(BLOB), BLOB[3 * limits.CHUNK_BYTES :])


def test_an_upload_from_beyond_the_end_is_given_up(talk: Talk) -> None:
    identifier, _ = upload(talk)
    (happening,) = talk.hear(m.Want(identifier, len(BLOB) + 1, 4))
    assert isinstance(happening, c.Refused)
    assert talk.sent() == [m.Drop(identifier)]


def test_an_empty_upload_is_refused_here(talk: Talk) -> None:
    with pytest.raises(InvalidRequest, match="size"):
        talk.connection.upload(hash_of(b""), b"")


def test_a_download_acknowledges_each_chunk_and_ends_with_the_bytes(talk: Talk) -> None:
    data = b"x" * (limits.CHUNK_BYTES + 1)
    identifier = talk.connection.download(hash_of(data))
    assert talk.sent() == [m.Get(identifier, hash_of(data))]
    talk.hear(m.Chunk(identifier, 0, len(data), data[: limits.CHUNK_BYTES]))
    assert talk.sent() == [m.More(identifier, 1)]
    assert talk.connect().sent() == [m.Get(identifier, hash_of(data), offset=limits.CHUNK_BYTES)]
    happenings = talk.hear(m.Chunk(identifier, limits.CHUNK_BYTES, len(data), b"x"))
    assert happenings == [c.Moved(identifier, len(data), len(data)), c.Downloaded(identifier, data)]


def test_wrong_bytes_are_refused_and_the_transfer_is_dropped(talk: Talk) -> None:
    identifier = talk.connection.download(hash_of(b"right"))
    talk.sent()
    (happening,) = talk.hear(m.Chunk(identifier, 0, 5, b"wrong"))
    assert isinstance(happening, c.Refused)
    assert isinstance(happening.error, BlobMismatch)
    assert talk.sent() == [m.Drop(identifier)]


def test_a_transfer_that_is_given_up_is_dropped_at_the_other_side(talk: Talk) -> None:
    for identifier in (upload(talk)[0], talk.connection.download(hash_of(b"x"))):
        talk.sent()
        talk.connection.forget(identifier)
        assert talk.sent() == [m.Drop(identifier)]
        talk.connection.forget(identifier)
        assert talk.sent() == []
        assert talk.hear(m.Chunk(identifier, 0, 1, b"x")) == []
        assert talk.hear(m.Want(identifier, 0, 4)) == []


def test_a_finished_transfer_is_not_dropped(talk: Talk) -> None:
    identifier, blob_hash = upload(talk)
    talk.hear(m.Stored(identifier, blob_hash))
    talk.connection.forget(identifier)
    assert talk.sent() == []


# Followed jobs


def followed(talk: Talk) -> int:
    identifier = talk.connection.follow("job")
    assert talk.sent() == [m.Resume(identifier, "job", 0)]
    assert len(talk.hear(m.Resumed(identifier, "job", "running"))) == 1
    return identifier


def test_events_come_in_order_and_each_once(talk: Talk) -> None:
    followed(talk)
    pushed = [talk.hear(m.Event("job", number, "step")) for number in (3, 3, 2, 7, 4)]
    assert [len(happenings) for happenings in pushed] == [1, 0, 0, 1, 0]


def test_the_result_of_a_followed_job_is_seen_once_and_ends_the_following(talk: Talk) -> None:
    followed(talk)
    result = m.Result("job", 5, "succeeded")
    assert talk.hear(result) == [c.Pushed(result)]
    assert talk.hear(result) == []
    assert talk.hear(m.Event("job", 6, "step")) == []
    assert talk.connect().sent() == []


def test_events_are_asked_for_from_the_last_one_on_after_a_reconnection(talk: Talk) -> None:
    followed(talk)
    talk.hear(m.Event("job", 41, "step"))
    (resume,) = talk.connect().sent()
    assert isinstance(resume, m.Resume)
    assert (resume.job, resume.after) == ("job", 41)
    assert talk.hear(m.Resumed(resume.id, "job", "running")) == []


def test_a_resume_that_was_not_answered_is_repeated_from_the_last_event_on(talk: Talk) -> None:
    identifier = talk.connection.follow("job")
    talk.hear(m.Event("job", 41, "step"))
    assert talk.connect().sent() == [m.Resume(identifier, "job", 41)]


def test_a_job_that_is_gone_after_a_reconnection_ends_as_failed(talk: Talk) -> None:
    followed(talk)
    (resume,) = talk.connect().sent()
    (happening,) = talk.refuse(resume.id, UnknownJob("It has expired."))  # type: ignore[attr-defined]
    assert isinstance(happening, c.Pushed)
    assert isinstance(happening.message, m.Result)
    assert isinstance(happening.message.error(), UnknownJob)


def test_a_daemon_that_is_too_busy_to_resume_a_job_is_asked_again_later(talk: Talk) -> None:
    followed(talk)
    (resume,) = talk.connect().sent()
    assert talk.refuse(resume.id, QuotaExceeded("Too many requests.")) == []  # type: ignore[attr-defined]
    assert talk.sent() == []
    assert talk.wait(1) == []
    (again,) = talk.sent()
    assert isinstance(again, m.Resume)
    assert again.job == "job"
    assert talk.wait(1) == []
    assert talk.sent() == []


def test_a_job_that_nobody_follows_is_not_asked_for(talk: Talk) -> None:
    followed(talk)
    talk.connection.unfollow("job")
    assert talk.hear(m.Event("job", 1, "step")) == []
    assert talk.connect().sent() == []


def test_following_an_unknown_job_is_refused(talk: Talk) -> None:
    identifier = talk.connection.follow("job")
    (happening,) = talk.refuse(identifier, UnknownJob("There is no such job."))
    assert isinstance(happening, c.Refused)
    assert talk.connect().sent() == []
