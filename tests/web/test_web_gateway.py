"""The daemon's own gateway: it is started again whenever it ends, nothing is lost, and it ends with the daemon."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import httpx
import psutil
import pytest
from qied_client.web.tokens import TokenStore
from structlog.testing import capture_logs

from qied.web_gateway import WebGateway
from tests.daemon.conftest import DaemonProcess


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Door:
    """A daemon with ``--web``."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.daemon = daemon
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        daemon.arguments = ["--web", f"127.0.0.1:{self.port}"]

    @property
    def gateway(self) -> psutil.Process:
        """The process of the gateway."""
        children = psutil.Process(self.daemon.pid).children()
        return next(child for child in children if "qied_client.web" in child.cmdline())

    def kill_gateway(self) -> None:
        """SIGKILL."""
        gateway = self.gateway
        gateway.kill()
        psutil.wait_procs([gateway])

    def token(self, user: str = "local") -> dict[str, str]:
        """Headers with a new token."""
        return {"Authorization": f"Bearer {TokenStore(self.daemon.home / 'tokens.json').add(user)[0]}"}


@pytest.fixture
def door(daemon_process, tmp_path) -> Iterator[Door]:
    daemon = daemon_process(tmp_path / "home")
    made = Door(daemon)
    daemon.start()
    daemon.wait_for("web gateway", address=made.url)
    yield made
    if daemon.runs:
        daemon.kill()


def until_it_answers(send) -> httpx.Response:
    """Send again until the gateway is there."""
    while True:
        try:
            return send()
        except httpx.TransportError:
            continue


def test_an_edit_outlives_the_gateway_and_its_repeated_request_gets_the_one_outcome(door, picture, tmp_path):
    headers = {**door.token(), "Idempotency-Key": "poster-7"}
    data = {"prompt": f"gate={tmp_path / 'gate'}", "size": "64x48", "steps": "3"}
    answers: list[httpx.Response] = []

    def ask() -> None:
        with httpx.Client(base_url=door.url, timeout=60) as http:
            send = lambda: http.post("/v1/images/edits", data=data, files={"image": picture}, headers=headers)  # noqa: E731
            answers.append(until_it_answers(send))

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    door.daemon.wait_for("started")
    door.kill_gateway()
    ended = door.daemon.wait_for("the web gateway ended, starting it again")
    assert ended["status"] == -signal.SIGKILL
    door.daemon.wait_for("web gateway", address=door.url)
    (tmp_path / "gate").touch()
    for thread in asking:
        thread.join()
    first, second = (answer.json()["data"][0] for answer in answers)
    assert first == second
    with door.daemon.client() as client:
        assert [row.id for row in client.jobs()] == [first["id"]]
    assert [line["event"] for line in door.daemon.log].count("finished") == 1


def test_the_page_s_stream_comes_back_and_says_where_things_stand(door, picture, tmp_path):
    headers = door.token()
    seen: list[tuple[str, dict]] = []
    with httpx.Client(base_url=door.url, headers=headers, timeout=60) as http:
        data = {"prompt": f"gate={tmp_path / 'gate'}", "size": "64x48", "steps": "3"}
        (job,) = http.post("/api/jobs", data=data, files={"image": picture}).json()["jobs"]

        def listen_once() -> None:
            """As the page does: read until the stream ends, keep what came."""
            again = killed.is_set()  # one piece of the stream may hold several events
            with http.stream("GET", "/api/events") as stream:
                name = ""
                for line in stream.iter_lines():
                    if line.startswith("event: "):
                        name = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        seen.append((name, json.loads(line.removeprefix("data: "))))
                        if name == "job" and again:
                            (tmp_path / "gate").touch()
                        elif name == "job" and not killed.is_set():
                            killed.set()
                            door.kill_gateway()
                        elif name == "outcome":
                            return

        killed = threading.Event()
        while not any(name == "outcome" for name, _ in seen):
            try:
                listen_once()
            except httpx.TransportError:
                continue
    outcome = next(told for name, told in seen if name == "outcome")
    assert (outcome["job"], outcome["state"]) == (job["job"], "succeeded")
    assert killed.is_set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_daemon_takes_the_gateway_along_in_order(door, number):
    gateway = door.gateway
    with (
        httpx.Client(base_url=door.url, headers=door.token(), timeout=60) as http,
        http.stream("GET", "/api/events") as stream,
    ):
        lines = stream.iter_lines()
        assert next(lines) == "event: status"
        door.daemon.signal(number)
        for _ in lines:  # it ends whole, not in the midst of an event
            pass
    assert door.daemon.wait() == 0
    assert not gateway.is_running()
    assert not any(line["event"] == "the web gateway ended, starting it again" for line in door.daemon.log)


def test_a_daemon_that_is_killed_leaves_no_gateway_behind(door):
    gateway = door.gateway
    door.daemon.kill()
    psutil.wait_procs([gateway], timeout=60)
    assert not gateway.is_running()


def test_a_port_that_somebody_has_is_told_with_a_remedy_and_edits_go_on(daemon_process, tmp_path, picture):
    daemon = daemon_process(tmp_path / "home")
    made = Door(daemon)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", made.port))
        taken.listen()
        daemon.start()
        ended = daemon.wait_for("the web gateway ended, starting it again")
        assert f"cannot listen at 127.0.0.1:{made.port}: Address already in use" in ended["reason"]
        assert "Choose another address, or end the program that has it." in ended["reason"]
        with daemon.client() as client:
            assert client.edit(picture, "brighter", steps=1).width
    try:
        daemon.wait_for("web gateway", address=made.url)
        assert httpx.get(f"{made.url}/health").status_code == 200
    finally:
        daemon.stop()


async def test_a_bug_of_the_gateway_is_in_the_daemon_s_log_without_a_caller_s_words(tmp_path):
    gateway = WebGateway(tmp_path, [])
    program = """
import logging
for number in range(3):
    try:
        raise ValueError("a secret prompt")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
"""
    gateway._command = [sys.executable, "-c", program]
    with capture_logs() as logs:
        await gateway._once()
    (told,) = logs
    assert told["error"] == "ValueError" and told["where"] and "secret" not in str(told)


async def test_a_gateway_that_says_much_while_it_ends_holds_nobody_up(tmp_path):
    gateway = WebGateway(tmp_path, [])
    begun = tmp_path / "begun"
    program = f"import sys; open({str(begun)!r}, 'w'); sys.stdin.read(); sys.stderr.write('x' * 2_000_000)"
    gateway._command = [sys.executable, "-c", program]
    running = asyncio.create_task(gateway.run())
    async with asyncio.timeout(60):
        while not begun.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait({running})
