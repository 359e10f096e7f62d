"""What is open when its token is removed ends; the streams of others go on, also while the file cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.daemon.conftest import DaemonProcess
from tests.web.conftest import GatewayProcess

HURRIED = """
from qied_client.web import access
from qied_client.web.http import events
access._LOOK_S = events._PING_S = 0.2
"""
"""A gateway that looks after tokens as a usual one does, only more often."""
WAIT_S = 30


@pytest.fixture(scope="module")
def gateway(shared_daemon: DaemonProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    running = GatewayProcess(shared_daemon.key, tmp_path_factory.mktemp("hurried") / "tokens.json", first=HURRIED)
    yield running
    running.kill()


@pytest.fixture(scope="module")
def enrolled(shared_daemon: DaemonProcess) -> None:
    for user in ("web-mia", "ada", "bob"):
        shared_daemon.enrol(user)


@pytest.fixture
def removable(gateway: GatewayProcess, enrolled: None) -> str:
    return gateway.tokens.add("web-mia")[0]


@contextmanager
def asking(gateway: GatewayProcess, token: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=WAIT_S, trust_env=False) as client:
        yield client


def remove(gateway: GatewayProcess, token: str) -> None:
    found = gateway.tokens.find(token)
    assert found is not None
    gateway.tokens.remove(found.id)


def rest_of(lines: Iterator[str]) -> list[str]:
    """What comes until the stream ends; a status comes each second, so one that does not end shows by its length."""
    found = [line for line, _ in zip(lines, range(100), strict=False)]
    assert len(found) < 100, "the stream goes on"
    return found


def form(gate: Path, **fields: str) -> dict[str, str]:
    return {"prompt": f"gate={gate}", "size": "64x48", "steps": "2", **fields}


def test_the_events_of_a_window_end_and_those_of_others_go_on(gateway, token, removable):
    with (
        asking(gateway, token) as other,
        asking(gateway, removable) as client,
        other.stream("GET", "/api/events") as going_on,
        client.stream("GET", "/api/events") as ending,
    ):
        lines, theirs = ending.iter_lines(), going_on.iter_lines()
        assert next(lines) == next(theirs) == "event: status"
        remove(gateway, removable)
        rest_of(lines)
        assert sum(next(theirs) == "event: status" for _ in range(20)) >= 2


def test_the_events_of_a_job_end_though_nothing_happens(gateway, removable, picture, tmp_path):
    gate = tmp_path / "gate"
    with asking(gateway, removable) as client:
        answer = client.post("/api/jobs", data=form(gate), files={"image": picture})
        job = answer.json()["jobs"][0]["job"]
        with client.stream("GET", f"/api/jobs/{job}/events") as stream:
            lines = stream.iter_lines()
            next(lines)
            remove(gateway, removable)
            assert "event: outcome" not in rest_of(lines)
    gate.touch()


def test_a_picture_that_forms_is_not_sent_to_the_end(gateway, removable, picture, tmp_path):
    gate = tmp_path / "gate"
    with asking(gateway, removable) as client:
        data = form(gate, stream="true", partial_images="1")
        with client.stream("POST", "/v1/images/edits", data=data, files={"image": picture}) as stream:
            lines = stream.iter_lines()
            next(lines)
            remove(gateway, removable)
            assert not any("completed" in line for line in rest_of(lines))
    gate.touch()


def test_a_file_of_tokens_that_cannot_be_read_ends_nothing(gateway, removable):
    file = gateway.tokens._path
    with asking(gateway, removable) as client, client.stream("GET", "/api/events") as stream:
        lines = stream.iter_lines()
        next(lines)
        file.chmod(0o644)
        try:
            assert client.get("/api/me").status_code == 503
            assert sum(next(lines) == "event: status" for _ in range(20)) >= 2
        finally:
            file.chmod(0o600)
        remove(gateway, removable)
        rest_of(lines)


@pytest.fixture
def facade(shared_daemon: DaemonProcess, enrolled: None, tmp_path: Path) -> Iterator[GatewayProcess]:
    running = GatewayProcess(shared_daemon.key, tmp_path / "tokens.json", "--comfyui", first=HURRIED)
    yield running
    running.kill()


def listening(gateway: GatewayProcess, user: str) -> ClientConnection:
    url, token = gateway.url.replace("http", "ws", 1), gateway.tokens.add(user)[0]
    return connect(f"{url}/ws", additional_headers={"Authorization": f"Bearer {token}"}, proxy=None)


def test_a_listener_of_the_comfyui_door_is_closed_and_others_are_not(facade):
    with listening(facade, "ada") as ada, listening(facade, "bob") as bob:
        for each in (ada, bob):
            each.recv(timeout=WAIT_S)
        facade.tokens.remove("ada")
        with pytest.raises(ConnectionClosed) as closed:
            ada.recv(timeout=5)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008
        assert bob.ping().wait(WAIT_S)
