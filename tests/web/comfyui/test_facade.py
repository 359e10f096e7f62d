"""What the façade keeps apart, refuses, stops and forgets."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.web.conftest import GatewayProcess

Graph = dict[str, Any]
Make = Callable[..., Graph]
Upload = Callable[..., str]
AsUser = Callable[[str], httpx.Client]


def ended(client: httpx.Client, prompt_id: str, facade: GatewayProcess) -> dict[str, Any]:
    """Wait for a prompt of a client that listens to everything of its own, and return its entry of the history."""
    headers = {name: value for name, value in client.headers.items() if name == "authorization"}
    with connect(f"{facade.url.replace('http', 'ws', 1)}/ws?clientId={uuid.uuid4()}", additional_headers=headers) as ws:
        while True:  # the state of the queue is told at once, and again when the prompt leaves it
            message = json.loads(ws.recv(timeout=60))
            if message["type"] == "status":
                found = client.get(f"/history/{prompt_id}").json()
                if prompt_id in found:
                    entry: dict[str, Any] = found[prompt_id]
                    return entry


def queued(client: httpx.Client, graph: Graph, **more: Any) -> str:
    answer = client.post("/prompt", json={"prompt": graph, **more})
    assert answer.status_code == 200, answer.text
    assert answer.json()["node_errors"] == {}
    return str(answer.json()["prompt_id"])


def running(client: httpx.Client) -> list[str]:
    return [row[1] for row in client.get("/queue").json()["queue_running"]]


def test_two_users_do_not_see_each_other(
    facade: GatewayProcess, as_user: AsUser, graph: Make, upload: Upload, make_picture: Callable[..., bytes]
) -> None:
    ada, bob = as_user("ada"), as_user("bob")
    name = upload(ada, make_picture(60, 40, (9, 9, 200)), "secret.png")
    prompt_id = queued(ada, graph(name))
    entry = ended(ada, prompt_id, facade)
    image = entry["outputs"]["14"]["images"][0]
    assert entry["status"]["status_str"] == "success" and ada.get("/view", params=image).status_code == 200
    assert bob.get(f"/history/{prompt_id}").json() == {}
    assert prompt_id not in bob.get("/history").json()
    assert bob.get("/view", params=image).status_code == 404
    assert bob.get("/view", params={"filename": name, "type": "input"}).status_code == 404
    assert bob.get(f"/api/jobs/{prompt_id}").status_code == 404
    assert name not in bob.get("/object_info/LoadImage").json()["LoadImage"]["input"]["required"]["image"][0]
    refused = bob.post("/prompt", json={"prompt": graph(name)})
    assert refused.status_code == 400 and "4" in json.dumps(refused.json()["node_errors"])
    bob.post("/history", json={"delete": [prompt_id]})
    assert prompt_id in ada.get("/history").json()
    assert as_user("").get(f"/history/{prompt_id}").json() == {}


def test_a_result_is_a_picture_for_the_next_graph_and_gone_with_its_history(
    facade: GatewayProcess, as_user: AsUser, graph: Make, upload: Upload, picture: bytes
) -> None:
    client = as_user("ada")
    first = ended(client, queued(client, graph(upload(client, picture))), facade)
    image = first["outputs"]["14"]["images"][0]
    again = queued(client, graph(f"{image['filename']} [output]"))
    assert ended(client, again, facade)["status"]["completed"] is True
    assert client.get("/view", params=image).status_code == 200
    client.post("/history", json={"clear": True})
    assert client.get("/history").json() == {} and client.get("/view", params=image).status_code == 404


def test_interrupt_stops_what_runs_and_the_queue_loses_what_waits(
    facade: GatewayProcess,
    as_user: AsUser,
    graph: Make,
    upload: Upload,
    picture: bytes,
    gate: Path,
    tokens: dict[str, str],
) -> None:
    client = as_user("ada")
    name = upload(client, picture)
    url = f"{facade.url.replace('http', 'ws', 1)}/ws?clientId=ada-listens"
    with connect(url, additional_headers={"Authorization": f"Bearer {tokens['ada']}"}) as ws:
        prompt_id = queued(client, graph(name, f"gate={gate}"), client_id="ada-listens")
        types: list[str] = []

        def until(wanted: str) -> dict[str, Any]:
            while True:
                out = ws.recv(timeout=60)
                if isinstance(out, str):
                    message: dict[str, Any] = json.loads(out)
                    types.append(message["type"])
                    if message["type"] == wanted:
                        return message["data"]  # type: ignore[no-any-return]

        until("executing")
        assert running(client) == [prompt_id]
        assert client.get("/prompt").json() == {"exec_info": {"queue_remaining": 1}}
        assert client.post("/interrupt", json={"prompt_id": str(uuid.uuid4())}).status_code == 200
        assert running(client) == [prompt_id], "another prompt was meant"
        waiting = [queued(client, graph(name, f"gate={gate}")) for _ in range(12)]
        client.post("/queue", json={"delete": waiting[-2:]})
        left = client.get("/queue").json()
        ids = [row[1] for row in left["queue_pending"] + left["queue_running"]]
        assert set(ids) == {prompt_id, *waiting[:-2]}
        assert client.post("/interrupt").status_code == 200
        told = until("execution_interrupted")
        assert told["prompt_id"] == prompt_id and told["node_id"] == "12" and told["node_type"] == "KSampler"
        client.post("/queue", json={"clear": True})
        client.post("/interrupt")
        cancelled = client.post("/api/jobs/cancel", json={"job_ids": waiting}).json()["cancelled"]
        assert set(cancelled) <= set(waiting)
        while until("status")["status"]["exec_info"]["queue_remaining"]:
            pass
    gate.touch()
    assert not {*waiting[-2:]} & {*client.get("/history").json()}, "of what only waited nothing is told"
    entry = client.get(f"/history/{prompt_id}").json()[prompt_id]
    assert entry["status"] == {**entry["status"], "status_str": "error", "completed": False}
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"


def test_a_graph_of_an_unknown_class_gets_node_errors(
    as_user: AsUser, graph: Make, upload: Upload, picture: bytes
) -> None:
    client = as_user("ada")
    wrong = graph(upload(client, picture))
    wrong["9"] = {"class_type": "FancyPatch", "inputs": {"model": ["8", 0]}}
    answer = client.post("/prompt", json={"prompt": wrong})
    assert answer.status_code == 400
    body = answer.json()
    assert body["error"]["type"] == "prompt_outputs_failed_validation"
    problem = body["node_errors"]["9"]
    assert problem["class_type"] == "FancyPatch" and problem["dependent_outputs"] == ["14"]
    assert problem["errors"][0]["type"] == "unsupported_node" and problem["errors"][0]["details"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({}, "no_prompt"),
        ({"prompt": {}}, "no_prompt"),
        ({"prompt": []}, "no_prompt"),
        ({"prompt": {"1": {"class_type": "SaveImage"}}}, None),
        ({"prompt": {"1": 7}}, "invalid_prompt"),
        ({"prompt": {"1": {"class_type": "X", "inputs": {}}}, "prompt_id": "7"}, "invalid_prompt_id"),
        ({"prompt": {"1": {"class_type": "X", "inputs": {}}}, "partial_execution_targets": "1"}, "invalid_prompt"),
    ],
)
def test_a_body_that_is_no_prompt_is_refused(as_user: AsUser, body: Graph, kind: str | None) -> None:
    answer = as_user("ada").post("/prompt", json=body)
    assert answer.status_code == 400 and set(answer.json()) == {"error", "node_errors"}
    assert kind is None or answer.json()["error"]["type"] == kind


def test_an_edit_that_fails_is_an_error_of_its_node(
    facade: GatewayProcess, as_user: AsUser, graph: Make, upload: Upload, picture: bytes
) -> None:
    client = as_user("bob")
    prompt_id = queued(client, graph(upload(client, picture), "please fail"))
    entry = ended(client, prompt_id, facade)
    event, told = entry["status"]["messages"][-1]
    assert event == "execution_error" and told["node_id"] == "12" and "The prompt said so" in told["exception_message"]
    job = client.get(f"/api/jobs/{prompt_id}").json()
    assert job["status"] == "failed" and job["execution_error"]["exception_type"] == "job_failed"
    listed = client.get("/api/jobs", params={"status": "failed", "limit": 1}).json()
    assert listed["jobs"][0]["id"] == prompt_id and listed["pagination"]["total"] >= 1


def test_a_name_that_is_taken_gets_a_number_and_the_same_picture_does_not(
    as_user: AsUser, upload: Upload, make_picture: Callable[..., bytes]
) -> None:
    client = as_user("bob")
    one, two = make_picture(20, 20, (1, 2, 3)), make_picture(30, 20, (4, 5, 6))
    assert upload(client, one, "same.png") == upload(client, one, "same.png") == "same.png"
    assert upload(client, two, "same.png") == "same (1).png" == upload(client, two, "same.png")
    assert upload(client, two, "same.png", overwrite="true") == "same.png"
    seen = client.get("/view", params={"filename": "same.png", "type": "input"})
    assert seen.content == two
    assert upload(client, one, "same.png", subfolder="a/b") == "same.png"
    params = {"filename": "same.png", "type": "input", "subfolder": "a/b"}
    assert client.get("/view", params=params).content == one


@pytest.mark.parametrize(
    "params",
    [
        {"filename": "../tokens.json", "type": "input"},
        {"filename": "/etc/passwd", "type": "input"},
        {"filename": "passwd", "subfolder": "../../etc", "type": "input"},
        {"filename": "passwd", "subfolder": "/etc", "type": "output"},
        {"filename": "a\0b", "type": "input"},
        {"filename": "..\\tokens.json", "type": "temp"},
        {"filename": "x.png", "type": "secrets"},
        {"filename": "", "type": "input"},
        {},
    ],
)
def test_no_name_leads_out_of_a_users_folders(as_user: AsUser, params: dict[str, str]) -> None:
    client = as_user("ada")
    assert client.get("/view", params=params).status_code in (400, 404)


@pytest.mark.parametrize(
    ("name", "data", "fields"),
    [
        ("x.png", b"<svg onload='alert(1)'/>", {}),
        ("x.png", b"", {}),
        ("..", None, {}),
        ("x.png", None, {"subfolder": "../.."}),
        ("x.png", None, {"type": "output"}),
        ("x" * 300 + ".png", None, {}),
    ],
)
def test_what_is_no_picture_or_has_no_name_is_not_kept(
    as_user: AsUser, picture: bytes, name: str, data: bytes | None, fields: dict[str, str]
) -> None:
    files = {"image": (name, picture if data is None else data, "image/png")}
    answer = as_user("ada").post("/upload/image", files=files, data=fields)
    assert answer.status_code == 400, answer.text


def test_a_mask_is_the_opacity_of_the_picture_that_it_is_of(
    facade: GatewayProcess, as_user: AsUser, upload: Upload, picture: bytes
) -> None:
    client = as_user("bob")
    name = upload(client, picture, "masked.png")
    width, height = Image.open(BytesIO(picture)).size
    mask = Image.new("RGBA", (width, height), (9, 9, 9, 255))
    mask.paste((0, 0, 0, 0), (0, 0, width // 2, height))
    buffer = BytesIO()
    mask.save(buffer, "PNG")
    reference = json.dumps({"filename": name, "type": "input", "subfolder": ""})
    files = {"image": ("clipspace-mask.png", buffer.getvalue(), "image/png")}
    answer = client.post("/upload/mask", files=files, data={"original_ref": reference, "subfolder": "clipspace"})
    assert answer.json() == {"name": "clipspace-mask.png", "subfolder": "clipspace", "type": "input"}
    where = {"filename": "clipspace-mask.png", "subfolder": "clipspace", "type": "input"}
    colours = Image.open(BytesIO(client.get("/view", params={**where, "channel": "rgb"}).content))
    assert colours.mode == "RGB" and colours.tobytes() == Image.open(BytesIO(picture)).convert("RGB").tobytes()
    opacity = Image.open(BytesIO(client.get("/view", params={**where, "channel": "a"}).content)).getchannel("A")
    assert opacity.getpixel((0, 0)) == 0 and opacity.getpixel((width - 1, 0)) == 255
    small = client.get("/view", params={**where, "preview": "webp;50"})
    assert small.headers["content-type"] == "image/webp" and Image.open(BytesIO(small.content)).format == "WEBP"
    assert client.get("/view", params={**where, "preview": "jpeg"}).headers["content-type"] == "image/jpeg"
    wrong = client.post("/upload/mask", files=files, data={"original_ref": "{}"})
    assert wrong.status_code == 400


def test_what_clients_ask_first_is_answered_under_both_paths(as_user: AsUser) -> None:
    client = as_user("ada")
    for prefix in ("", "/api"):
        stats = client.get(f"{prefix}/system_stats").json()
        assert stats["devices"][0]["vram_total"] > 0 and stats["system"]["comfyui_version"]
        assert client.get(f"{prefix}/features").json()["supports_preview_metadata"] is True
        assert "loras" in client.get(f"{prefix}/models").json()
        assert client.get(f"{prefix}/models/diffusion_models").json() == ["builtin.safetensors"]
        assert client.get(f"{prefix}/models/none").status_code == 404
        assert client.get(f"{prefix}/embeddings").json() == client.get(f"{prefix}/extensions").json() == []
        assert client.get(f"{prefix}/object_info/Nothing").json() == {}
        assert client.post(f"{prefix}/free", json={"unload_models": True}).status_code == 200
    info = client.get("/object_info").json()
    assert info["UpscaleModelLoader"]["input"]["required"]["model_name"][0] == ["builtin-2x.safetensors"]
    for name, told in info.items():
        assert told["name"] == name and told["input_order"]["required"] == [*told["input"]["required"]]
        assert len(told["output"]) == len(told["output_name"]) == len(told["output_is_list"])
        assert all(isinstance(value[0], (str, list)) for value in told["input"]["required"].values())


def test_strangers_and_pages_of_other_sites_are_refused(facade: GatewayProcess, tokens: dict[str, str]) -> None:
    with httpx.Client(base_url=facade.url, trust_env=False) as client:
        wrong = client.get("/history", headers={"Authorization": "Bearer qied-nothing"})
        assert wrong.status_code == 401 and wrong.json()["error"]["type"] == "invalid_token"
        origin = {"Origin": "https://evil.example"}
        assert client.post("/prompt", json={}, headers=origin).status_code == 403
        assert client.get("/history", headers={"Host": "evil.example"}).status_code == 421
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        upgrade["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
        assert client.get("/ws", headers={**upgrade, "Host": "evil.example"}).status_code == 403
    url = f"{facade.url.replace('http', 'ws', 1)}/ws"
    for headers, status in (
        (origin, 403),
        ({"Authorization": "Bearer qied-nothing"}, 401),
    ):
        with pytest.raises(InvalidStatus) as refused:
            connect(url, additional_headers=headers).__enter__()
        assert refused.value.response.status_code == status
