"""What a client must not send gets its typed error, and nobody else notices: an edit of another user goes on."""

from __future__ import annotations

import math
import struct
import time
import zlib
from dataclasses import replace

import msgpack
import psutil
import pytest
import zmq
from qied_client import Client
from qied_client.credentials import read_credential
from qied_client.errors import HandshakeRefused
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.fields import write
from qied_client.protocol.request import EditRequest, LoraChoice
from qied_client.transfers import hash_of

MIB = 1024 * 1024


@pytest.fixture
def daemon(shared_daemon):
    return shared_daemon


@pytest.fixture(scope="module")
def other_key(shared_daemon):
    return shared_daemon.enrol("neighbour")


@pytest.fixture(autouse=True)
def neighbour(daemon, other_key, picture, tmp_path):
    """Another user's edit that begins before each test and has to end well after it, in the same two processes."""
    pids = daemon.pid, daemon.worker_pid
    gate = tmp_path / "gate"
    with daemon.client(other_key) as client:
        job = client.submit(picture, f"wait gate={gate}", seed=3, steps=2)
        yield job
        gate.touch()
        assert job.result(timeout=60).seed == 3
    assert daemon.runs
    assert (daemon.pid, daemon.worker_pid) == pids


@pytest.fixture
def raw(daemon):
    with daemon.raw() as client:
        yield client.hello()


@pytest.fixture
def blob(raw, picture):
    return raw.upload(picture)


def request(*images, **fields):
    return EditRequest(images, **{"prompt": "do something", "seed": 1, "steps": 2, "width": 64, "height": 48, **fields})


def submit(raw, wanted, **fields):
    fields = {"job": f"job-{time.monotonic_ns()}", "payload_hash": wanted.payload_hash(), **fields}
    return raw.ask(lambda n: m.Submit(n, request=wanted, **fields))


def code(answer):
    assert isinstance(answer, m.Failure), answer
    assert answer.message
    return answer.code


def png(width, height, pixels=b""):
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


# Connecting


def test_a_version_that_the_daemon_does_not_speak(daemon):
    with daemon.raw() as client:
        assert code(client.ask(lambda n: m.Hello(n, 7, 9, "from the future"))) == "version_mismatch"


def test_a_key_that_nobody_enrolled(daemon):
    public, secret = zmq.curve_keypair()
    stranger = replace(read_credential(daemon.key), public_key=public.decode(), secret_key=secret.decode())
    with pytest.raises(HandshakeRefused):
        Client(stranger)


@pytest.mark.parametrize(
    "message", [m.Status(1), m.Ping(1), m.Get(1, "0" * 64), m.Put(1, "0" * 64, 5), m.Cancel(1, "job")]
)
def test_a_request_before_hello(daemon, message):
    with daemon.raw() as client:
        client.send(message)
        assert code(client.receive()) == "protocol_error"
        assert isinstance(client.receive(), m.Bye)
        client.hello()
        assert isinstance(client.ask(m.Status), m.StatusReport)


# Frames


def test_a_frame_above_one_mebibyte_ends_its_connection(daemon, raw):
    raw.send_frames(b"CHUNK", bytes(MIB + 1))
    raw.wait_for_socket(zmq.EVENT_DISCONNECTED)
    with daemon.raw() as client:
        client.hello()


@pytest.mark.parametrize(("frames", "size", "cut"), [(3000, 64 * 1024, True), (100_000, 1, False)])
def test_a_message_of_very_many_frames_fills_no_memory_and_keeps_nobody_from_answers(daemon, raw, frames, size, cut):
    front, frame = psutil.Process(daemon.pid), bytes(size)
    with daemon.raw() as client:
        client.hello()
        raw.send_frames(*[frame] * frames)
        peak = 0
        while not (_was_cut(daemon) if cut else raw.has_news()):
            client.ping_ms()
            peak = max(peak, front.memory_info().rss)
    assert peak < 200 * MIB
    if cut:
        raw.wait_for_socket(zmq.EVENT_DISCONNECTED)
    else:
        assert code(raw.answer(None)) == "protocol_error"


def _was_cut(daemon):
    return any(line["event"] == "closed a connection that does not finish its message" for line in daemon.log)


@pytest.mark.parametrize(
    "frames",
    [
        (b"STATUS",),
        (b"STATUS", b""),
        (b"STATUS", b"\x81\xa2id"),
        (b"STATUS", b"\xc1"),
        (b"STATUS", b"\xff" * 100),
        (b"STATUS", b"\x91" * 5000),
        (b"STATUS", msgpack.packb([1, 2])),
        (b"STATUS", msgpack.packb({1: 2})),
        (b"STATUS", msgpack.packb({"id": -1})),
        (b"STATUS", msgpack.packb({"id": 1.5})),
        (b"STATUS", msgpack.packb({"id": True})),
        (b"STATUS", msgpack.packb({"id": 1, "more": 2})),
        (b"STATUS", msgpack.packb({"id": msgpack.ExtType(5, b"")})),
        (b"STATUS", msgpack.packb({"id": 1}) + b"\x00"),
        (b"STATUS", b"\x82\xa2id\x01\xa2id\x02"),
        (b"STATUS", msgpack.packb({"id": 1}), b"a body"),
        (b"STATUS", bytes(limits.HEADER_BYTES + 1)),
        (b"", b""),
        (b"WELCOME", msgpack.packb({"re": 1})),
        (b"S" * 1000, msgpack.packb({"id": 1})),
    ],
)
def test_frames_that_are_no_message(raw, frames):
    raw.send_frames(*frames)
    assert code(raw.news(m.Failure)) == "protocol_error"
    assert isinstance(raw.ask(m.Status), m.StatusReport)


def test_a_request_with_the_same_key_twice(raw, blob):
    header = msgpack.packb(write(m.Submit(1, "twice", request(blob), "0" * 64)))
    raw.send_frames(b"SUBMIT", header.replace(msgpack.packb("seed"), msgpack.packb("steps")))
    assert code(raw.news(m.Failure)) == "protocol_error"


# Fields of a request


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"true_cfg_scale": math.nan}, "invalid_request"),
        ({"true_cfg_scale": math.inf}, "invalid_request"),
        ({"prompt": ""}, "invalid_request"),
        ({"prompt": "ä" * limits.PROMPT_BYTES}, "invalid_request"),
        ({"prompt": "nul \0"}, "invalid_request"),
        ({"steps": 0}, "invalid_request"),
        ({"steps": 10_000}, "invalid_request"),
        ({"seed": -1}, "invalid_request"),
        ({"width": 16_385}, "invalid_request"),
        ({"width": None}, "invalid_request"),
        ({"width": 100_000 * 16}, "invalid_request"),
        ({"width": 4096, "height": 4096}, "above_cap"),
        ({"preset": "no-such"}, "unknown_preset"),
        ({"loras": (LoraChoice("no-such"),)}, "unknown_lora"),
        ({"loras": (LoraChoice("../../etc/passwd"),)}, "invalid_request"),
        ({"precision": "fp4"}, "precision_unavailable"),
        ({"mask": "/etc/passwd"}, "invalid_request"),
        ({"mask": "0" * 64}, "unknown_blob"),
        ({"on_cap": "maybe"}, "invalid_request"),
        ({"output_format": "exe"}, "invalid_request"),
    ],
)
def test_a_field_out_of_bounds(raw, blob, fields, expected):
    assert code(submit(raw, request(blob, **fields))) == expected
    assert raw.ask(m.Status).waiting == 0


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ((), "invalid_request"),
        (("/etc/passwd",), "invalid_request"),
        (("../" * 20 + "etc/passwd",), "invalid_request"),
        (("0" * 64,), "unknown_blob"),
        (("A" * 64,), "invalid_request"),
    ],
)
def test_images_that_name_no_picture(raw, images, expected):
    assert code(submit(raw, request(*images))) == expected


@pytest.mark.parametrize("count", [4, 20])
def test_more_images_than_the_model_takes(raw, blob, count):
    assert code(submit(raw, request(*[blob] * count))) == "invalid_request"


def test_a_prompt_of_100000_characters(raw, blob):
    header = write(m.Submit(1, "long", request(blob, prompt="x" * 100_000), "0" * 64))
    raw.send_header(b"SUBMIT", header)
    assert code(raw.answer(None)) == "protocol_error"


def test_a_payload_hash_of_another_request(raw, blob):
    answer = submit(raw, request(blob), payload_hash=request(blob, seed=2).payload_hash())
    assert code(answer) == "invalid_request"
    assert answer.details["field"] == "payload_hash"


@pytest.mark.parametrize("path", ["/etc/passwd", "../journal.db", "", "0" * 63, "0" * 64 + "/"])
def test_a_path_where_a_hash_belongs(raw, path):
    assert code(raw.ask(lambda n: m.Get(n, path))) == "protocol_error"
    assert code(raw.ask(lambda n: m.Put(n, path, 5))) == "protocol_error"


def test_more_requests_at_once_than_a_client_may_have(start_daemon, picture):
    daemon = start_daemon(QIED_LIMITS_REQUESTS_PER_CLIENT="1")
    with daemon.raw() as raw:
        raw.hello()
        wanted = request(raw.upload(picture))
        for number in range(1000, 1064):
            raw.send(m.Submit(number, f"job-{number}", wanted, wanted.payload_hash()))
        answers = [raw.receive() for _ in range(64)]
        assert {message.re for message in answers} == set(range(1000, 1064))
        assert {code(message) for message in answers if isinstance(message, m.Failure)} == {"quota_exceeded"}
        assert any(isinstance(message, m.Accepted) for message in answers)


# Pictures


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(30_000, 30_000, zlib.compress(bytes(1_000_000))), "picture_too_large"),
        (png(0, 0), "picture_too_large"),
        (png(2**31, 1), "picture_too_large"),
        (png(64, 48)[:20], "picture_unreadable"),
        (b"This is no picture.png", "unsupported_picture"),
        (b"GIF89a" + bytes(100), "unsupported_picture"),
        (b"\x00", "unsupported_picture"),
    ],
    ids=["bomb", "empty", "flat", "cut", "text", "gif", "nul"],
)
def test_a_picture_whose_header_cannot_be_used(raw, data, expected):
    digest = raw.upload(data)
    assert code(submit(raw, request(digest))) == expected
    assert code(raw.ask(lambda n: m.Open(n, "bad", digest))) == expected
    assert code(submit(raw, request(raw.upload(png(64, 48)), mask=digest))) == expected


@pytest.mark.parametrize("pixels", [b"", zlib.compress(bytes(2_000_000))[:2000], b"not deflated"])
def test_a_picture_whose_pixels_are_not_there_fails_its_job_alone(daemon, raw, pixels):
    answer = submit(raw, request(raw.upload(png(7000, 7000, pixels))))
    assert isinstance(answer, m.Accepted)
    raw.send(m.Resume(raw.next_id(), answer.job))
    outcome = raw.news(m.Result)
    assert (outcome.state, outcome.code) == ("failed", "picture_unreadable")


# Blobs


def test_bytes_that_do_not_have_the_announced_hash(raw):
    want = raw.ask(lambda n: m.Put(n, hash_of(b"right"), 5))
    raw.send(m.Chunk(want.re, 0, 5, b"wrong"))
    assert code(raw.news(m.Failure)) == "blob_mismatch"
    assert raw.upload(b"right") == hash_of(b"right")


def test_more_bytes_than_announced(raw):
    want = raw.ask(lambda n: m.Put(n, hash_of(b"short"), 5))
    raw.send(m.Chunk(want.re, 0, 5, b"much longer"))
    assert code(raw.news(m.Failure)) == "blob_mismatch"


@pytest.mark.parametrize(("offset", "total"), [(5, 10), (0, 11), (2**25, 10)])
def test_a_chunk_out_of_order_or_of_another_blob(raw, offset, total):
    want = raw.ask(lambda n: m.Put(n, hash_of(b"0123456789"), 10))
    raw.send(m.Chunk(want.re, offset, total, b"01234"))
    assert code(raw.news(m.Failure)) == "protocol_error"


def test_more_chunks_than_the_credit_allows(raw):
    data = bytes(range(200))
    want = raw.ask(lambda n: m.Put(n, hash_of(data), len(data)))
    for offset, byte in enumerate(data):
        raw.send(m.Chunk(want.re, offset, len(data), bytes([byte])))
    assert code(raw.news(m.Failure)) == "protocol_error"
    assert isinstance(raw.ask(m.Status), m.StatusReport)


@pytest.mark.parametrize(
    ("size", "refused"),
    [(0, "protocol_error"), (limits.BLOB_BYTES + 1, "blob_too_large"), (2**62, "protocol_error")],
)
def test_a_blob_of_a_size_that_is_not_allowed(raw, size, refused):
    assert code(raw.ask(lambda n: m.Put(n, "0" * 64, size))) == refused


def test_more_uploads_at_once_than_a_client_may_have(raw):
    for number in range(8):
        digest = hash_of(f"upload {number}".encode())
        assert isinstance(raw.ask(lambda n, digest=digest: m.Put(n, digest, 8)), m.Want)
    assert code(raw.ask(lambda n: m.Put(n, "0" * 64, 1))) == "quota_exceeded"


def test_a_download_that_begins_behind_the_end(raw, blob):
    assert code(raw.ask(lambda n: m.Get(n, blob, offset=10_000))) == "invalid_request"


def test_chunks_and_credit_of_no_transfer_are_ignored(raw):
    raw.send(m.Chunk(99, 0, 5, b"01234"))
    raw.send(m.More(99, 64))
    raw.send(m.Drop(99))
    assert isinstance(raw.ask(m.Status), m.StatusReport)


# Things of another user


def test_a_blob_of_another_user(daemon, other_key, raw, blob):
    with daemon.raw(other_key) as other:
        other.hello()
        theirs = other.upload(b"theirs alone")
    assert code(raw.ask(lambda n: m.Get(n, theirs))) == "unknown_blob"
    assert code(submit(raw, request(theirs))) == "unknown_blob"
    assert code(submit(raw, request(blob, mask=theirs))) == "unknown_blob"
    assert code(raw.ask(lambda n: m.Open(n, "stolen", theirs))) == "unknown_blob"


def test_a_job_of_another_user(daemon, raw, blob, neighbour):
    for message in (m.Cancel, m.Resume, m.Release):
        assert code(raw.ask(lambda n, message=message: message(n, neighbour.id))) == "unknown_job"
    own = submit(raw, request(blob), job=neighbour.id)
    assert (own.job, own.known) == (neighbour.id, False)
    assert raw.ask(lambda n: m.Cancel(n, neighbour.id)).answer == "cancelled"
    assert [row.job for row in raw.ask(m.Status).jobs] == [None]
