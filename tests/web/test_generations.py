"""Pictures from text alone: a small model that makes them, for the Python client, the commands and the web gateway."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from PIL import Image
from qied_client.errors import InvalidRequest

from tests.daemon.conftest import DaemonProcess, StartDaemon
from tests.small_models import small_model, text_to_image_profile
from tests.web.conftest import GatewayProcess

FIELDS = {"prompt": "a red circle", "size": "128x128", "steps": 2, "seed": 5, "cfg": 1}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, daemon_process: StartDaemon) -> DaemonProcess:
    """A daemon of a model that makes pictures from text alone, with the real engine."""
    folder = tmp_path_factory.mktemp("from-text")
    profile = text_to_image_profile(folder / "profile.toml")
    daemon = daemon_process(folder / "home", engine="qied.engine.serving:load", QIED_MODEL_PROFILE=str(profile))
    daemon.model = str(small_model(folder / "Qwen-Image-2512", "2512"))
    return daemon.start()


@pytest.fixture(scope="module")
def door(daemon: DaemonProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Its gateway, as an enrolled user sees it."""
    running = GatewayProcess(daemon.key, tmp_path_factory.mktemp("gateway") / "tokens.json")
    daemon.enrol("ann")
    headers = {"Authorization": f"Bearer {running.tokens.add('ann')[0]}"}
    with httpx.Client(base_url=running.url, headers=headers, timeout=120) as client:
        yield client
    running.kill()


def picture_of(item: dict[str, str]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(item["b64_json"])))


def test_the_python_client_makes_pictures_and_is_told_what_the_model_cannot_do(
    daemon: DaemonProcess, picture: bytes
) -> None:
    with daemon.client(patience=60.0) as client:
        first, second = client.generate("a red circle", n=2, seed=5, steps=2)
        assert (first.width, first.height, second.seed) == (192, 128, 6)
        assert Image.open(io.BytesIO(first.bytes)).size == (192, 128)
        assert first.bytes != second.bytes
        assert (client.describe().max_images, client.describe().model_version) == (0, "2512")
        with pytest.raises(InvalidRequest, match="makes pictures from text alone") as caught:
            client.edit(picture, "make it blue")
        assert "a model that edits, such as Qwen-Image-Edit-2511" in caught.value.remedy
        assert client.quote([], "a red circle").fits


def test_the_command_line_makes_a_picture(daemon: DaemonProcess, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    command = [sys.executable, "-m", "qied", "generate", "a red circle", "-o", str(out), "--key", str(daemon.key)]
    options = ["--steps", "2", "--size", "128x64"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Image.open(io.BytesIO(out.read_bytes())).size == (128, 64) and done.stdout.startswith(f"{out}  128x64")


def test_the_openai_package_generates(door: httpx.Client) -> None:
    token = door.headers["Authorization"].removeprefix("Bearer ")
    with openai.OpenAI(base_url=f"{door.base_url}/v1", api_key=token, max_retries=0) as sdk:
        answer = sdk.images.generate(
            prompt="a red circle",
            n=2,
            size="128x128",
            quality="high",
            output_format="jpeg",
            response_format="b64_json",
            extra_body={"steps": 2, "seed": 5},
        )
        assert [picture_of(item.model_dump()).size for item in answer.data or ()] == [(128, 128)] * 2
        assert (answer.size, answer.quality, answer.output_format) == ("128x128", "high", "jpeg")
        stream = sdk.images.generate(
            prompt="a red circle", size="128x128", stream=True, partial_images=2, extra_body={"steps": 6, "seed": 5}
        )
        kinds = [event.type for event in stream]
    assert kinds[-1] == "image_generation.completed"
    assert set(kinds[:-1]) == {"image_generation.partial_image"} and len(kinds) == 3


def test_a_form_gives_the_same_picture_as_json(door: httpx.Client) -> None:
    made = door.post("/v1/images/generations", json=FIELDS)
    form = door.post("/v1/images/generations", data={name: str(value) for name, value in FIELDS.items()})
    assert made.status_code == form.status_code == 200
    pictures = [answer.json()["data"][0] for answer in (made, form)]
    assert pictures[0]["b64_json"] == pictures[1]["b64_json"]
    job = door.post("/api/jobs", data={"prompt": "a red circle", "steps": "1"})
    assert job.status_code == 202
    assert door.get(f"/api/jobs/{job.json()['jobs'][0]['job']}/result").status_code == 200


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "prompt", "missing_required_parameter"),
        ({"prompt": "a", "size": "9000x100"}, "size", "invalid_size"),
        ({"prompt": "a", "size": "same"}, "size", "invalid_request"),
        ({"prompt": "a", "image": "x"}, "image", None),
        ({"prompt": "a", "n": 11}, "n", None),
        ({"prompt": "a", "nonsense": 1}, "nonsense", "unknown_parameter"),
    ],
)
def test_what_is_wrong_with_a_request_is_told(
    door: httpx.Client, body: dict[str, object], param: str, code: str | None
) -> None:
    answer = door.post("/v1/images/generations", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param and (code is None or error["code"] == code)


def test_pictures_are_refused_and_a_body_that_is_no_json(door: httpx.Client, picture: bytes) -> None:
    edited = door.post("/v1/images/edits", files={"image": picture}, data={"prompt": "blue"})
    assert edited.status_code == 400 and "makes pictures from text alone" in edited.json()["error"]["message"]
    sent = door.post("/v1/images/generations", files={"image": picture}, data={"prompt": "blue"})
    assert sent.status_code == 400 and "edited by /v1/images/edits" in sent.json()["error"]["message"]
    for text in (b"[]", b"{", b'"a"'):
        assert door.post("/v1/images/generations", content=text).json()["error"]["code"] == "invalid_json"
