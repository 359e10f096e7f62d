"""Graphs, pictures and listeners that mean no good: each is refused or bounded, and nobody else notices."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image
from qied_client.errors import PictureError
from qied_client.web.comfyui.errors import node_errors
from qied_client.web.comfyui.sockets import Socket, Unread
from qied_client.web.pixels.workshop import Workshop
from qied_client.workflows import examine, read_workflow

from tests.daemon.conftest import DaemonProcess
from tests.web.comfyui.conftest import Graph
from tests.web.conftest import GatewayProcess
from tests.web.raw import Raw

HURRIED = """
from qied_client.web.http import connections
from qied_client.web.comfyui import running
connections._READER_S = 0.4
running._PICTURES_BYTES = 2_000
"""
MOST_RSS = 200_000_000


@pytest.fixture(scope="module")
def facade(shared_daemon: DaemonProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    tokens = tmp_path_factory.mktemp("attacked") / "tokens.json"
    running = GatewayProcess(shared_daemon.key, tokens, "--comfyui", "--without-token", "local", first=HURRIED)
    yield running
    running.kill()


def png(width: int, height: int, noise: bool = False) -> bytes:
    file = io.BytesIO()
    image = Image.effect_noise((width, height), 90) if noise else Image.new("L", (width, height))
    image.save(file, "PNG")
    return file.getvalue()


# Graphs


def test_of_thousands_of_wrong_nodes_a_few_are_told(graph: Callable[..., Graph]) -> None:
    wrong = {f"w{number}": {"class_type": "W", "inputs": {"a": ["w0", 0]}} for number in range(2000)}
    saves = {
        f"s{number}": {"class_type": "SaveImage", "inputs": {"images": [f"w{number % 2000}", 0]}}
        for number in range(99)
    }
    workflow = read_workflow({**wrong, **saves})
    errors = node_errors(workflow, examine(workflow, lambda _: png(64, 64)).problems)
    assert 1 <= len(errors) <= 32
    many = read_workflow({**wrong, **{f"s{number}": saves["s1"] for number in range(2000)}})
    told = node_errors(many, examine(many, lambda _: png(64, 64)).problems)
    assert all(len(each["dependent_outputs"]) <= 100 for each in told.values())


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_refused(
    as_user: Callable[[str], httpx.Client], graph: Callable[..., Graph], number: str
) -> None:
    client = as_user("ada")
    body = json.dumps({"prompt": graph("cat.png"), "extra_data": {"x": "HERE"}}).replace('"HERE"', number)
    answer = client.post("/prompt", content=body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_json")


def test_text_that_no_encoding_has_harms_no_answer(
    as_user: Callable[[str], httpx.Client], graph: Callable[..., Graph], upload: Callable[..., str], picture: bytes
) -> None:
    client = as_user("ada")
    half = "\ud800"
    asked = {"prompt": graph(upload(client, png(64, 64), "half.png")), "client_id": half, "extra_data": {half: half}}
    number = client.post("/prompt", content=json.dumps(asked)).json()["prompt_id"]
    while number not in (history := client.get("/history").json()):
        assert client.get("/queue").status_code == 200
    assert history[number]["prompt"][3]["client_id"] == half
    assert client.get(f"/api/jobs/{number}").json()["workflow"]["extra_data"][half] == half
    refused = client.post("/prompt", content=json.dumps({"prompt": {half: {"class_type": half}}}))
    assert refused.status_code == 400


def test_a_graph_is_smaller_than_what_reading_it_may_take(as_user: Callable[[str], httpx.Client]) -> None:
    client = as_user("ada")
    graph = {"1": {"class_type": "SaveImage", "inputs": {"x": "y" * 1_100_000}}}
    assert client.post("/prompt", json={"prompt": graph}).status_code == 413
    named = {"n" * 300: {"class_type": "SaveImage", "inputs": {}}}
    assert client.post("/prompt", json={"prompt": named}).status_code == 400


def test_pictures_of_a_graph_have_a_size_together(
    as_user: Callable[[str], httpx.Client], graph: Callable[..., Graph], upload: Callable[..., str]
) -> None:
    client = as_user("ada")
    large = graph(upload(client, png(64, 64, noise=True), "noise.png"))
    answer = client.post("/prompt", json={"prompt": large})
    assert answer.status_code == 400 and "bytes" in answer.text


# Listeners


def listener(url: str, sid: str) -> Raw:
    raw = Raw(url, buffer=4096)
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Key": key}
    raw.head(f"GET /ws?clientId={sid}", **upgrade, Sec_WebSocket_Version=13)
    raw.until(b"\r\n\r\n")
    return raw


def test_who_asks_by_pings_and_reads_nothing_is_given_up(facade: GatewayProcess) -> None:
    ping = b"\x89\xfd" + bytes(4) + b"a" * 125
    ends, ended = time.monotonic() + 30, False
    with listener(facade.url, "flood") as raw:
        raw.socket.settimeout(5)
        while not ended and time.monotonic() < ends:
            try:
                raw.socket.sendall(ping * 2000)
            except OSError:
                ended = True
    assert ended, "the connection goes on"
    assert psutil.Process(facade.process.pid).memory_info().rss < MOST_RSS


def test_what_waits_for_all_listeners_of_a_user_is_bounded() -> None:
    unread = Unread(100)
    one, two = Socket("one", unread), Socket("two", unread)
    one.show(b"x" * 80, needed=True)
    two.show(b"x" * 500, needed=True)  # one message may always wait
    one.show(b"x" * 30, needed=True)
    assert unread.taken == 500, "what waited for the first one is let go of"
    two.close()
    two.show(b"x" * 10, needed=True)
    two.show(b"x" * 10)
    assert unread.taken == 0


class NotReading:
    """A WebSocket whose client reads nothing: what is sent to it is never gone."""

    async def receive_text(self) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async def send_text(self, text: str) -> None:
        await asyncio.Event().wait()

    async def close(self, code: int) -> None:
        self.code = code


async def test_a_listener_that_is_replaced_ends_though_it_reads_nothing() -> None:
    socket = Socket("one")
    websocket: Any = NotReading()
    socket.tell("status", {})
    running = asyncio.create_task(socket.run(websocket))
    await asyncio.sleep(0)
    socket.close()
    await asyncio.wait_for(running, 10)
    assert websocket.code == 1008


# Pictures


def test_a_picture_that_no_preview_can_be_made_of_is_refused(
    as_user: Callable[[str], httpx.Client], upload: Callable[..., str]
) -> None:
    client = as_user("ada")
    asked = {"filename": upload(client, png(16_384, 8), "wide.png"), "type": "input"}
    answer = client.get("/view", params={**asked, "preview": "webp;90"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request")
    assert client.get("/view", params={**asked, "preview": "jpeg;90"}).status_code == 200


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    made = Workshop()
    yield made
    made.close()


async def test_work_on_a_picture_ends_with_its_time_and_the_next_is_done(workshop: Workshop) -> None:
    workshop._wall_s = 0.0
    data = png(4000, 4000)
    with pytest.raises(PictureError):
        await workshop.do("ada", "convert", data, to="WEBP")
    workshop._wall_s = 100.0
    assert (await workshop.do("ada", "preview", data, kind="jpeg", quality=50, rgb=True))[:2] == b"\xff\xd8"


async def test_a_child_that_was_killed_costs_no_picture(workshop: Workshop) -> None:
    await workshop.do("ada", "preview", png(64, 64), kind="webp", quality=50, rgb=False)
    child = workshop._free[-1]._process
    assert child is not None
    child.kill()
    child.wait()
    assert await workshop.do("ada", "preview", png(64, 64), kind="webp", quality=50, rgb=False)


async def test_a_user_s_long_works_are_one_at_a_time_and_end_when_they_are_not_wanted(workshop: Workshop) -> None:
    large, small = png(8000, 8000), png(64, 64)
    works = [asyncio.create_task(workshop.do("ada", "convert", large, to="WEBP")) for _ in range(3)]
    await asyncio.sleep(0)  # each of them is in the line now
    await workshop.do("bob", "preview", small, kind="webp", quality=50, rgb=False)
    assert not any(work.done() for work in works), "another user waited for one of them"
    for work in works:
        work.cancel()
    ended = await asyncio.gather(*works, return_exceptions=True)
    assert [type(each) for each in ended] == [asyncio.CancelledError] * 3
    assert await workshop.do("ada", "preview", small, kind="webp", quality=50, rgb=False)


def test_the_door_decodes_no_picture_itself(as_user: Callable[[str], httpx.Client], facade: GatewayProcess) -> None:
    as_user("ada").get("/features")
    maps = Path(f"/proc/{facade.process.pid}/maps")
    with suppress(FileNotFoundError):
        assert "_imaging" not in maps.read_text()
