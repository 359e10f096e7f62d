"""Programs that were written for ComfyUI, in their manner: they know nothing of the daemon, and change nothing."""

from __future__ import annotations

import json
import struct
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from io import BytesIO
from typing import Any

import httpx
from PIL import Image
from qied_client.picture_metadata import read_metadata
from websockets.sync.client import connect

from tests.web.conftest import GatewayProcess

Graph = dict[str, Any]
Make = Callable[..., Graph]
Upload = Callable[..., str]
AsUser = Callable[[str], httpx.Client]


class Script:
    """What ComfyUI's example of its WebSocket does: queue, listen until the prompt has ended, fetch the pictures."""

    def __init__(self, url: str) -> None:
        self.server_address = urllib.parse.urlsplit(url).netloc
        self.client_id = str(uuid.uuid4())

    def queue_prompt(self, prompt: Graph, prompt_id: str) -> None:
        body = json.dumps({"prompt": prompt, "client_id": self.client_id, "prompt_id": prompt_id}).encode()
        urllib.request.urlopen(urllib.request.Request(f"http://{self.server_address}/prompt", data=body)).read()

    def get_image(self, filename: str, subfolder: str, folder_type: str) -> bytes:
        values = urllib.parse.urlencode({"filename": filename, "subfolder": subfolder, "type": folder_type})
        with urllib.request.urlopen(f"http://{self.server_address}/view?{values}") as response:
            found: bytes = response.read()
        return found

    def get_history(self, prompt_id: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://{self.server_address}/history/{prompt_id}") as response:
            found: dict[str, Any] = json.loads(response.read())
        return found

    def get_images(self, ws: Any, prompt: Graph) -> dict[str, list[bytes]]:
        prompt_id = str(uuid.uuid4())
        self.queue_prompt(prompt, prompt_id)
        while True:
            out = ws.recv(timeout=60)
            if isinstance(out, str):
                message = json.loads(out)
                if message["type"] == "executing":
                    data = message["data"]
                    if data["node"] is None and data["prompt_id"] == prompt_id:
                        break
        history = self.get_history(prompt_id)[prompt_id]
        return {
            node: [self.get_image(each["filename"], each["subfolder"], each["type"]) for each in output["images"]]
            for node, output in history["outputs"].items()
        }


def test_a_script_of_the_websocket_example_gets_its_pictures(
    facade: GatewayProcess, as_user: AsUser, graph: Make, upload: Upload, picture: bytes
) -> None:
    name = upload(as_user(""), picture, "script.png")
    script = Script(facade.url)
    with connect(f"ws://{script.server_address}/ws?clientId={script.client_id}") as ws:
        images = script.get_images(ws, graph(name))
    assert list(images) == ["14"] and len(images["14"]) == 1
    image = Image.open(BytesIO(images["14"][0]))
    assert image.format == "PNG" and image.size == (96, 64) and "prompt" in image.info


def test_a_script_without_files_gets_its_pictures_over_the_websocket(
    facade: GatewayProcess, as_user: AsUser, graph: Make, upload: Upload, picture: bytes
) -> None:
    script = Script(facade.url)
    prompt = graph(upload(as_user(""), picture), save="SaveImageWebsocket")
    found: list[bytes] = []
    with connect(f"ws://{script.server_address}/ws?clientId={script.client_id}") as ws:
        prompt_id = str(uuid.uuid4())
        script.queue_prompt(prompt, prompt_id)
        current = ""
        while True:
            out = ws.recv(timeout=60)
            if isinstance(out, str):
                message = json.loads(out)
                if message["type"] == "executing" and message["data"]["prompt_id"] == prompt_id:
                    if message["data"]["node"] is None:
                        break
                    current = message["data"]["node"]
            elif current == "14":
                found.append(out[8:])
    assert [Image.open(BytesIO(data)).size for data in found] == [(96, 64)]


def test_open_webui_verifies_uploads_draws_and_fetches(
    facade: GatewayProcess, tokens: dict[str, str], graph: Make, picture: bytes
) -> None:
    headers = {"Authorization": f"Bearer {tokens['ada']}"}
    base = facade.url
    with httpx.Client(headers=headers, trust_env=False, timeout=60) as client:
        info = client.get(f"{base}/object_info").json()
        assert info["UNETLoader"]["input"]["required"]["unet_name"][0] == ["builtin.safetensors"]
        assert isinstance(info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0], list)
        files = {"image": ("5e1f.png", picture, "image/png")}
        sent = client.post(f"{base}/api/upload/image", files=files, data={"type": "input"}).json()
        workflow = graph(sent["name"], steps=2)
        workflow["5"]["inputs"]["prompt"] = "a hat"
        client_id = str(uuid.uuid4())
        socket_url = base.replace("http://", "ws://")
        with connect(f"{socket_url}/ws?clientId={client_id}", additional_headers=headers) as ws:
            queued = client.post(f"{base}/prompt", json={"prompt": workflow, "client_id": client_id}).json()
            while True:
                out = ws.recv(timeout=60)
                if isinstance(out, str):
                    message = json.loads(out)
                    if message["type"] == "executing":
                        data = message["data"]
                        if data["node"] is None and data["prompt_id"] == queued["prompt_id"]:
                            break
        history = client.get(f"{base}/history/{queued['prompt_id']}").json()[queued["prompt_id"]]
        urls = []
        for node, output in history["outputs"].items():
            if workflow[node]["class_type"] in ("SaveImage", "PreviewImage"):
                urls += [f"{base}/view?{urllib.parse.urlencode(image)}" for image in output["images"]]
        assert len(urls) == 1 and "type=output" in urls[0]
        answer = client.get(urls[0])
        assert answer.headers["content-type"] == "image/png"
        assert Image.open(BytesIO(answer.content)).size == (96, 64)


def test_messages_come_in_the_order_that_clients_rely_on_and_previews_with_them(
    facade: GatewayProcess, as_user: AsUser, tokens: dict[str, str], graph: Make, upload: Upload, picture: bytes
) -> None:
    client = as_user("bob")
    prompt = graph(upload(client, picture), steps=4)
    url = facade.url.replace("http://", "ws://")
    headers = {"Authorization": f"Bearer {tokens['bob']}"}
    with (
        connect(f"{url}/ws?clientId=plain", additional_headers=headers) as plain,
        connect(f"{url}/api/ws?clientId=knowing", additional_headers=headers) as knowing,
    ):
        knowing.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
        for name, ws, asked in (
            *(("plain", plain, {}), ("plain", plain, {"preview_method": "default"})),
            *(("plain", plain, {"preview_method": "auto"}), ("knowing", knowing, {})),
            ("knowing", knowing, {"preview_method": "none"}),
        ):
            body = {"prompt": prompt, "client_id": name, "extra_data": asked}
            prompt_id = client.post("/prompt", json=body).json()["prompt_id"]
            types, frames, nodes = [], [], []
            while True:
                out = ws.recv(timeout=60)
                if isinstance(out, bytes):
                    frames.append(out)
                    continue
                message = json.loads(out)
                if message["type"] == "status":
                    continue
                types.append(message["type"])
                if message["type"] == "progress":
                    assert message["data"] | {"value": 0} == {
                        "node": "12", "prompt_id": prompt_id, "value": 0, "max": 4
                    }  # fmt: skip
                    assert 1 <= message["data"]["value"] <= 4
                if message["type"] == "progress_state":
                    assert message["data"]["nodes"]["12"]["prompt_id"] == prompt_id
                if message["type"] == "executed":
                    assert message["data"]["output"]["images"][0]["type"] == "output"
                if message["type"] == "executing":
                    nodes.append(message["data"]["node"])
                    if nodes[-1] is None:
                        break
            told = [each for each in types if each != "feature_flags"]
            shows = asked.get("preview_method") == "auto" or (name == "knowing" and not asked)
            assert told[:3] == ["execution_start", "execution_cached", "executing"]
            assert told[-4:] == ["executing", "executed", "execution_success", "executing"]
            assert nodes == ["12", "14", None] and told.count("progress") == told.count("progress_state") >= 1
            assert bool(frames) == shows, "the plain engine shows a preview at each step"
            for frame in frames:
                event, number = struct.unpack(">II", frame[:8])
                if name == "plain":
                    assert (event, number) == (1, 1)
                    picture_bytes = frame[8:]
                else:
                    about = json.loads(frame[8 : 8 + number])
                    assert event == 4 and about["prompt_id"] == prompt_id and about["node_id"] == "12"
                    picture_bytes = frame[8 + number :]
                assert Image.open(BytesIO(picture_bytes)).format == "JPEG"
            assert ("feature_flags" in types) == (name == "knowing" and not asked)


def test_the_official_graph_has_the_size_of_its_scaled_picture_and_says_how_it_was_made(
    facade: GatewayProcess, as_user: AsUser, graph: Make, upload: Upload, picture: bytes
) -> None:
    prompt = graph(upload(as_user(""), picture, "official.png"))
    prompt["10"] = {"class_type": "FluxKontextImageScale", "inputs": {"image": ["4", 0]}}
    prompt["7"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["3", 0]}}
    for node in ("5", "6"):
        prompt[node]["inputs"]["image1"] = ["10", 0]
    script = Script(facade.url)
    with connect(f"ws://{script.server_address}/ws?clientId={script.client_id}") as ws:
        (data,) = script.get_images(ws, prompt)["14"]
    made = read_metadata(data)
    # 64 x 48 is nearest to 1184 x 880, a quarter of which on the small model's grid is this.
    assert made is not None and (made.width, made.height) == Image.open(BytesIO(data)).size == (288, 224)
    assert (made.compat, made.size, made.steps, made.seed) == ("comfyui", "kontext", 3, 7)
