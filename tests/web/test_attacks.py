"""Connections and bodies that mean no good, over real sockets: each is refused, and nobody else notices."""

from __future__ import annotations

import secrets
import socket
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress

import httpx
import psutil
import pytest

from tests.web.conftest import GatewayProcess
from tests.web.raw import Raw

HURRIED = """
from qied_client.web import server
from qied_client.web.http import bodies, connections
connections._HEADER_S = connections._READER_S = bodies._CHUNK_S = 0.4
connections._CONNECTIONS = 40
server._KEEP_ALIVE_S = 1
"""
"""A gateway with the same limits, which are reached within a second."""
FORM = {"prompt": "brighter", "size": "64x48"}
MULTIPART = "multipart/form-data; boundary=b"
FILE = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
MOST_RSS = 400_000_000


@pytest.fixture(scope="module")
def gateway(shared_daemon, tmp_path_factory) -> Iterator[GatewayProcess]:
    running = GatewayProcess(shared_daemon.key, tmp_path_factory.mktemp("hurried") / "tokens.json", first=HURRIED)
    yield running
    running.kill()


@pytest.fixture
def http(gateway, token) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, headers={"Authorization": f"Bearer {token}"}, timeout=30) as client:
        yield client


@pytest.fixture
def raw(gateway) -> Iterator[Raw]:
    with Raw(gateway.url) as connection:
        yield connection


@pytest.fixture(autouse=True)
def nobody_else_notices(gateway, token, picture) -> Iterator[None]:
    """A stream of events and an edit go on whatever the test does, and memory stays within bounds."""
    headers = {"Authorization": f"Bearer {token}"}
    with (
        httpx.Client(base_url=gateway.url, headers=headers, timeout=30) as client,
        client.stream("GET", "/api/events") as stream,
    ):
        lines = stream.iter_lines()
        assert next(lines) == "event: status"
        yield
        answer = client.post("/v1/images/edits", data=FORM, files={"image": picture})
        assert answer.status_code == 200, answer.text
        assert any(line == "event: status" for line in lines)
    assert psutil.Process(gateway.process.pid).memory_info().rss < MOST_RSS


# Slow


def test_a_connection_that_says_nothing_is_closed(raw):
    assert raw.rest() == b""


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(raw):
    assert raw.drip(b"GET / HTTP/1.1\r\nX-Slow: " + b"a" * 4000) == b""


def test_the_second_request_of_a_connection_has_no_more_time(raw):
    raw.head("GET /health")
    raw.until(b'"ok"}')
    assert raw.drip(b"GET / HTTP/1.1\r\nX-Slow: " + b"a" * 4000) == b""


def test_half_a_request_behind_a_whole_one_is_not_waited_for(raw):
    raw.send(f"GET /health HTTP/1.1\r\nHost: {raw.host}\r\n\r\nGET /health HT".encode())
    assert raw.rest().endswith(b'"ok"}')


@pytest.mark.parametrize("drip", [False, True])
def test_a_body_that_does_not_come_is_given_up(raw, token, drip):
    raw.head("POST /v1/images/edits", Authorization=f"Bearer {token}", Content_Type=MULTIPART, Content_Length=100_000)
    raw.send(FILE)
    assert b" 408 " in (raw.drip(b"a") if drip else raw.rest())


@pytest.mark.parametrize("path", ["/v1/images/edits", "/api/jobs/none/cancel", "/health", "/nowhere"])
def test_a_body_that_was_answered_is_not_waited_for(raw, path):
    raw.head(f"POST {path}", Content_Length=100_000_000)
    said = raw.drip(b"a")
    assert b"HTTP/1.1 4" in said


def test_a_stream_whose_request_does_not_end_is_closed(raw, token):
    raw.head("GET /api/events", Authorization=f"Bearer {token}", Content_Length=10)
    assert b"event: status" in raw.rest()


def test_who_does_not_read_the_answers_is_dropped(gateway):
    with Raw(gateway.url, buffer=4096) as raw, pytest.raises(ConnectionError):
        raw.socket.settimeout(0.05)
        request = f"GET /page/main.js HTTP/1.1\r\nHost: {raw.host}\r\n\r\n".encode()
        while True:  # until nothing goes any more, and then until the connection is gone
            with suppress(TimeoutError):
                raw.socket.send(request)


# Many


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address")
def test_one_address_gets_half_of_the_places(gateway, token):
    held = []
    try:
        for _ in range(60):
            held.append(Raw(gateway.url, source="127.0.0.9"))
            held[-1].head("GET /api/events", Authorization=f"Bearer {token}")
        statuses = [connection.status for connection in held]
        assert statuses.count(200) == 20 and statuses.count(503) == 40
        with Raw(gateway.url, source="127.0.0.10") as other:
            other.head("GET /health")
            assert other.status == 200
    finally:
        for connection in held:
            connection.socket.close()
    with Raw(gateway.url, source="127.0.0.9") as again:
        again.head("GET /health")
        assert again.status == 200


# Wrong


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + secrets.token_bytes(200),
        b"\0" * 5000,
        b"\r\n" * 20_000,
        b"\xa7" + secrets.token_bytes(100_000),
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST /api/quote HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/quote HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /api/quote HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST /api/quote HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda data: repr(data[:1]),
)
def test_bytes_that_are_no_request_for_us_are_refused(raw, data):
    raw.send(data)
    said = raw.rest()
    assert said == b"" or said.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200")), said
    assert b"500" not in said[:20]


@pytest.mark.parametrize(("host", "origin"), [("[", None), ("[::1", None), ("127.0.0.1", "http://["), ("@", "a")])
def test_names_that_cannot_be_read_are_not_ours(http, host, origin):
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    assert http.post("/api/quote", json={}, headers=headers).status_code in (403, 421)


def test_requests_one_behind_the_other_are_answered_in_order(raw):
    request = "GET {} HTTP/1.1\r\nHost: " + raw.host + "\r\n\r\n"
    last = request.format("/health").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
    raw.send((request.format("/health") + request.format("/nowhere") + last).encode())
    said = raw.rest()
    assert [part[:3] for part in said.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200"]


def test_a_caller_who_closes_one_half_is_gone(gateway, token, picture, shared_daemon, tmp_path):
    data = {**FORM, "prompt": f"gate={tmp_path / 'gate'}", "stream": "true"}
    form = httpx.Request("POST", "http://x", data=data, files={"image": picture})
    body = form.read()
    kinds = {"Authorization": f"Bearer {token}", "Content_Type": form.headers["content-type"]}
    said = b""
    while b"text/event-stream" not in said:  # places that earlier callers had may not be free yet
        with Raw(gateway.url) as raw:
            raw.head("POST /v1/images/edits", **kinds, Content_Length=len(body))
            raw.send(body)
            said = raw.socket.recv(1 << 16)
            assert not said or said.startswith(b"HTTP/1.1 200"), said
            if said:
                raw.socket.shutdown(socket.SHUT_WR)
                raw.rest()
    with shared_daemon.client(shared_daemon.home.parent / "web-lin.key.json") as client:
        (newest,) = client.jobs(limit=1)
        outcome = client.job(newest.id).outcome()
    (tmp_path / "gate").touch()
    assert outcome.state == "cancelled"


# Large


def refused(answer: httpx.Response) -> str:
    assert 400 <= answer.status_code < 500, answer.text
    return str(answer.json()["error"]["code"])


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (MULTIPART, b"a" * 1_000_000),
        (MULTIPART, b""),
        (MULTIPART, b"--b\r\n" * 100_000),
        (MULTIPART, b"--b\r\n" + b"X: y\r\n" * 100_000),
        (MULTIPART, b'--b\r\nContent-Disposition: form-data; name="' + b"n" * 1_000_000 + b'"\r\n\r\nx\r\n--b--\r\n'),
        (MULTIPART, b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
        (MULTIPART, FILE + b"a" * 1000),
        ("multipart/form-data", b"--b--"),
        ("multipart/form-data; boundary=" + "b" * 5000, b"--b--"),
        ("multipart/form-data; boundary=", b"--"),
        (MULTIPART + "; charset=zlib", b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n--b--\r\n'),
        (
            MULTIPART + "; charset=idna",
            b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\xff\r\n--b--\r\n',
        ),
        ("application/x-www-form-urlencoded", b"a" * 1_000_000 + b"=1"),
        ("application/x-www-form-urlencoded", b"a=1&" * 10_000),
        ("application/x-www-form-urlencoded", b"prompt=" + b"a" * 100_000),
    ],
    ids=lambda value: repr(value[:60]),
)
def test_forms_that_cannot_be_read_are_refused(http, kind, body):
    answer = http.post("/v1/images/edits", content=body, headers={"Content-Type": kind})
    assert refused(answer) in ("invalid_form", "missing_required_parameter", "unknown_parameter")


def png_that_says(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(b"\0" * 1_000_000)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("field", ["image", "mask"])
@pytest.mark.parametrize("side", [60_000, 2**31 - 1])
def test_a_picture_that_unpacks_to_more_than_memory_is_refused(http, picture, field, side):
    files = {"image": picture, field: png_that_says(side, side)}
    assert refused(http.post("/v1/images/edits", data=FORM, files=files)) in ("picture_too_large", "invalid_value")


def test_a_body_that_says_it_is_packed_is_not_unpacked(http):
    packed = zlib.compress(b"a" * 10_000_000)
    headers = {"Content-Type": MULTIPART, "Content-Encoding": "deflate"}
    assert refused(http.post("/v1/images/edits", content=packed, headers=headers)) == "invalid_form"


@pytest.mark.parametrize("path", ["/api/quote", "/api/control"])
def test_a_long_or_deep_json_is_refused(http, path):
    assert refused(http.post(path, content=b"[" * 50_000)) == "invalid_json"
    assert refused(http.post(path, content=b" " * 100_000)) == "request_too_large"


def test_a_picture_above_the_limit_is_refused_before_it_is_read(http):
    answer = http.post("/v1/images/edits", data=FORM, files={"image": b"\0" * (64 * 1024 * 1024 + 1)})
    assert (answer.status_code, refused(answer)) == (413, "blob_too_large")
