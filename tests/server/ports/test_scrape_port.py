"""The port of figures: what it answers, and that nobody who is slow keeps others from an answer."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry, Counter
from qied_client.errors import ConfigError
from qied_client.protocol.readiness import Readiness, of

from qied.server.ports import scrape_port
from qied.server.ports.scrape_port import ScrapePort


def asked(port: ScrapePort, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection(port.address, timeout=60)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def connected(port: ScrapePort) -> socket.socket:
    host, _, number = port.address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(number)), timeout=60)


def is_ended(one: socket.socket) -> bool:
    """Whether the other side has ended the connection; what it had not read makes that a reset."""
    try:
        return one.recv(1) == b""
    except ConnectionResetError:
        return True


def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    Counter("qied_things", "Things.", registry=made).inc(3)
    return made


@pytest.fixture
def port() -> Iterator[ScrapePort]:
    opened = ScrapePort("127.0.0.1:*")
    yield opened
    opened.close()


@pytest.fixture
def attached(port: ScrapePort) -> ScrapePort:
    port.attach(registry(), lambda: of("ready"))
    return port


def test_before_there_is_a_front_it_lives_and_is_not_ready(port: ScrapePort) -> None:
    assert asked(port, "/health")[0] == 200
    for path in ("/ready", "/metrics"):
        status, said = asked(port, path)
        assert (status, json.loads(said)["code"]) == (503, "loading")


def test_figures_and_readiness_of_the_front(port: ScrapePort) -> None:
    port.attach(registry(), lambda: Readiness("trouble", "The card is gone. Look."))
    status, text = asked(port, "/metrics")
    assert (status, "qied_things_total 3.0" in text) == (200, True)
    assert asked(port, "/health") == (200, '{"status": "ok"}\n')
    status, text = asked(port, "/ready")
    assert (status, json.loads(text)) == (
        503,
        {"ready": False, "code": "trouble", "reason": "The card is gone. Look."},
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/metrics/x", 404), ("POST", "/metrics", 405), ("DELETE", "/ready", 405)],
)
def test_other_paths_and_methods_are_refused(attached: ScrapePort, method: str, path: str, status: int) -> None:
    assert asked(attached, path, method)[0] == status


@pytest.mark.parametrize("path", ["/metrics", "/health", "/ready"])
def test_a_head_has_no_body(attached: ScrapePort, path: str) -> None:
    with connected(attached) as one:
        one.sendall(f"HEAD {path} HTTP/1.1\r\n\r\n".encode())
        head, _, body = one.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 ") and b"Content-Type: " in head
    assert body == b""


def test_a_front_that_does_not_answer_is_told_as_that(port: ScrapePort) -> None:
    def nothing() -> Readiness:
        raise TimeoutError

    port.attach(registry(), nothing)
    for path in ("/ready", "/health"):
        status, said = asked(port, path)
        assert (status, json.loads(said)["code"]) == (503, "unreachable")


def test_a_bug_is_answered_and_does_not_end_the_port(port: ScrapePort, capfd: pytest.CaptureFixture[str]) -> None:
    port.attach(registry(), lambda: of("nonsense"))  # type: ignore[arg-type]
    status, said = asked(port, "/ready")
    assert (status, json.loads(said)) == (500, {"error": "A bug; see the daemon's log."})
    assert asked(port, "/metrics")[0] == 200
    assert "Traceback (most recent" not in capfd.readouterr().err


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence ends no connection."""
    monkeypatch.setattr(scrape_port._Handler, "timeout", None)


@pytest.mark.usefixtures("patient")
def test_the_silent_the_slow_and_those_who_do_not_read_keep_nobody_out(
    attached: ScrapePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than there are places: the oldest have to go."""
    monkeypatch.setattr(scrape_port, "_CONNECTION_S", 600.0)
    with ExitStack() as held:
        idle = [held.enter_context(connected(attached)) for _ in range(5 * scrape_port._CONNECTIONS)]
        for number, one in enumerate(idle):
            one.sendall((b"", b"GET /met", b"GET /metrics HTTP/1.1\r\n", b"GET /metrics HTTP/1.1\r\n\r\n")[number % 4])
            if number % 5 == 0:
                assert asked(attached, "/metrics")[0] == 200
        assert asked(attached, "/ready")[0] == 200
        assert is_ended(idle[0])
        assert threading.active_count() < 5 * scrape_port._CONNECTIONS


@pytest.mark.usefixtures("patient")
def test_who_takes_too_long_in_all_is_ended(attached: ScrapePort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape_port, "_CONNECTION_S", 0.0)
    with connected(attached) as one:
        one.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        assert is_ended(one)


def test_who_says_nothing_for_long_is_ended(attached: ScrapePort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape_port, "_CONNECTION_S", 600.0)
    monkeypatch.setattr(scrape_port._Handler, "timeout", 0.05)
    with connected(attached) as one:
        assert is_ended(one)


def test_garbage_is_refused_and_the_next_is_served(attached: ScrapePort) -> None:
    for said in (b"\0\xff" * 40 + b"\r\n\r\n", b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n"):
        with connected(attached) as one:
            one.sendall(said)
            one.recv(65536)
    assert asked(attached, "/metrics")[0] == 200


def test_a_port_in_use_is_told_with_the_setting_and_who_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {number} is in use") as refused:
            ScrapePort(f"127.0.0.1:{number}")
    assert refused.value.message.startswith("daemon.metrics")
    assert "--metrics, or daemon.metrics" in refused.value.remedy


@pytest.mark.parametrize("address", ["10.255.255.1:*", "no-such-host-0.invalid:9464"])
def test_an_address_that_is_not_of_this_machine_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"daemon\.metrics: cannot listen"):
        ScrapePort(address)


def test_ipv6_where_the_machine_has_it() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    port = ScrapePort("[::1]:*")
    port.attach(registry(), lambda: of("ready"))
    assert asked(port, "/ready")[0] == 200
    port.close()


def test_after_its_end_nothing_answers(attached: ScrapePort) -> None:
    with connected(attached) as one:
        attached.close()
        assert is_ended(one)
    with pytest.raises(OSError):
        connected(attached).close()
