"""What one user may have here, and that it is given back."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qied_client.web.comfyui.errors import ComfyError
from qied_client.web.comfyui.names import PictureName, annotated, picture_name, saved_as
from qied_client.web.comfyui.prompt import Prompt, now_ms
from qied_client.web.comfyui.sockets import Socket
from qied_client.web.comfyui.space import Space, SpaceLimits
from qied_client.web.comfyui.uploads import UploadLimits, Uploads
from websockets.sync.client import connect

from tests.daemon.conftest import DaemonProcess
from tests.web.conftest import GatewayProcess


def name(text: str) -> PictureName:
    return PictureName("input", "", text)


def files(folder: Path) -> int:
    return len([*folder.iterdir()])


def test_what_was_used_longest_ago_makes_room_and_leaves_no_file(tmp_path: Path) -> None:
    now = [0.0]
    uploads = Uploads(tmp_path, UploadLimits(user_bytes=100, user_files=3, all_bytes=150, age_s=60), lambda: now[0])
    for number in range(3):
        now[0] += 1
        uploads.add("ada", name(f"{number}.png"), bytes([number]) * 30, overwrite=False)
    now[0] += 1
    assert uploads.path("ada", name("0.png")) is not None, "it counts as used now"
    uploads.add("ada", name("3.png"), b"x" * 30, overwrite=False)
    assert [each.filename for each in uploads.names("ada")] == ["0.png", "2.png", "3.png"]
    uploads.add("ada", name("4.png"), b"y" * 70, overwrite=False)
    assert uploads.bytes_of("ada") == 100 and files(tmp_path) == 2
    uploads.add("bob", name("0.png"), b"z" * 90, overwrite=False)
    assert uploads.bytes_of("ada") + uploads.bytes_of("bob") <= 150 and uploads.path("bob", name("0.png"))
    with pytest.raises(ComfyError):
        uploads.add("ada", name("5.png"), b"w" * 101, overwrite=True)
    now[0] += 61
    assert uploads.names("bob") == [] and files(tmp_path) == 0


def test_the_same_picture_again_takes_no_room_and_one_that_is_replaced_gives_its_own_back(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    for _ in range(3):
        assert uploads.add("ada", name("a.png"), b"one", overwrite=False) == name("a.png")
    assert uploads.add("ada", name("a.png"), b"two", overwrite=False) == name("a (1).png")
    assert uploads.add("ada", name("a.png"), b"three", overwrite=True) == name("a.png")
    assert uploads.bytes_of("ada") == 8 and files(tmp_path) == 2


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_name_leads_out_of_its_folder(subfolder: str, filename: str) -> None:
    for make in (lambda: picture_name("input", subfolder, filename), lambda: annotated(f"{subfolder}/{filename}")):
        try:
            found = make()
        except ComfyError:
            continue
        parts = [*found.subfolder.split("/"), found.filename]
        assert ".." not in parts and not found.in_graphs.startswith(("/", "\\")) and "\\" not in found.in_graphs


@given(st.text(max_size=300))
def test_every_prefix_gives_a_name_that_is_found_again(prefix: str) -> None:
    subfolder, stem = saved_as(prefix, "output")
    made = picture_name("output", subfolder, f"{stem}_00001_.png")
    assert annotated(f"{made.in_graphs} [output]") == made


def prompt(number: float = 0, size: int = 10, **fields: Any) -> Prompt:
    return Prompt(str(uuid.uuid4()), number, b"x" * size, b"", ("1",), **fields)


def space_of(limits: SpaceLimits, gate: asyncio.Event) -> Space:
    async def run(_: Space, each: Prompt) -> None:
        await gate.wait()
        each.state, each.ended_at = "success", now_ms()

    return Space("ada", run, limits)


async def settled(space: Space) -> None:
    while running := [task for task in asyncio.all_tasks() if task.get_name().startswith("prompt ")]:
        await asyncio.wait(running)
        await asyncio.sleep(0)  # what follows a prompt
    assert space.queue_info["exec_info"]["queue_remaining"] == 0


async def test_prompts_wait_and_are_remembered_within_limits() -> None:
    gate = asyncio.Event()
    space = space_of(SpaceLimits(waiting=2, remembered=3, graph_bytes=100), gate)
    queued = [prompt(number) for number in range(10)]
    for each in queued:
        space.queue(each)  # eight have begun, two wait
    with pytest.raises(ComfyError) as full:
        space.queue(prompt())
    assert full.value.status == 429
    with pytest.raises(ComfyError):
        space.queue(queued[0])
    gate.set()
    await settled(space)
    assert [each.id for each in space.history()] == [each.id for each in queued[-3:]]
    space.queue(prompt(size=95))
    await settled(space)
    assert len(space.history()) == 1, "large graphs are remembered less"


async def test_a_prompt_for_the_front_goes_before_those_that_wait() -> None:
    gate = asyncio.Event()
    space = space_of(SpaceLimits(), gate)
    for number in range(8):
        space.queue(prompt(number))
    last, first = prompt(space.next_number(None, front=False)), prompt(-5)
    space.queue(last)
    space.queue(first)
    assert space.pending[-2:] == [first, last]
    space.stop([first])
    assert first not in space.pending and space.prompt(first.id) is None
    gate.set()
    await settled(space)
    await space.close()


async def test_results_are_forgotten_with_their_prompt_and_after_their_time() -> None:
    gate = asyncio.Event()
    gate.set()
    space = space_of(SpaceLimits(age_ms=1000), gate)
    one = prompt()
    saved = space.save("a/b", "output", "image/webp", "job-1")
    assert saved.in_graphs == "a/b_00001_.webp"
    assert space.save("a/b", "output", "image/png", "job-2").in_graphs == "a/b_00002_.png"
    one.outputs["1"] = {"images": [saved.facts]}
    space.queue(one)
    await settled(space)
    assert space.job_of(saved) == "job-1" and space.history() == [one]
    one.ended_at = now_ms() - 1001
    assert space.history() == [] and space.job_of(saved) is None


async def test_beginnings_of_names_are_forgotten_and_no_name_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qied_client.web.comfyui.space._MOST_NUMBERED", 3)
    space = space_of(SpaceLimits(), asyncio.Event())
    first = space.save("first", "output", "image/png", "job-1")
    for number in range(10):
        space.save(f"other{number}", "output", "image/png", "job-2")
    assert len(space._numbers) == 3
    again = space.save("first", "output", "image/png", "job-3")
    assert (first.in_graphs, again.in_graphs) == ("first_00001_.png", "first_00002_.png")
    assert space.job_of(first) == "job-1"


async def test_a_listener_is_replaced_by_name_and_there_are_not_too_many() -> None:
    space = space_of(SpaceLimits(sockets=2), asyncio.Event())
    one, again, two = Socket("one"), Socket("one"), Socket("two")
    for each in (one, again, two):
        space.listen(each)
    with pytest.raises(ComfyError):
        space.listen(Socket("three"))
    space.leave(one)  # it is not the one that listens under its name
    with pytest.raises(ComfyError):
        space.listen(Socket("three"))
    space.leave(again)
    space.listen(Socket("three"))


def test_a_websocket_that_ends_gives_its_place_back(shared_daemon: DaemonProcess, tmp_path: Path) -> None:
    few = "import qied_client.web.http.connections as c; c.usual_places = lambda: c.Places(8)"
    options = ("--comfyui", "--without-token", "local")
    gateway = GatewayProcess(shared_daemon.key, tmp_path / "tokens.json", *options, first=few)
    url = gateway.url.replace("http", "ws", 1)
    try:
        for number in range(20):
            with connect(f"{url}/ws?clientId={number}") as ws:
                assert json.loads(ws.recv(timeout=30))["data"]["sid"] == str(number)
        assert httpx.get(f"{gateway.url}/queue", trust_env=False).json()["queue_running"] == []
        assert gateway.stop() == 0
    finally:
        gateway.kill()


def test_a_graph_that_is_too_large_is_refused(facade: GatewayProcess, as_user: Callable[[str], httpx.Client]) -> None:
    client = as_user("ada")
    graph = {"1": {"class_type": "SaveImage", "inputs": {"x": "y" * 5_000_000}}}
    assert client.post("/prompt", json={"prompt": graph}).status_code == 413
    assert client.post("/history", content=b"[" * 70_000).status_code == 413
    assert client.post("/history", content=b"[" * 50_000).status_code == 400
