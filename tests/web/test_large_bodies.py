"""Pictures at the limit: one that comes slowly holds nobody up, and many at once are not all taken."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator

import httpx
import psutil
import pytest
from PIL import Image

from tests.web.conftest import GatewayProcess
from tests.web.raw import Raw

ROOMY = """
from qied_client.web import app
Room = app.Room
app.Room = lambda: Room(200_000_000)
"""
"""A gateway in which the pictures of one user may take 100 MB, and those of all 200."""
MIB = 1024 * 1024
FORM = {"prompt": "brighter", "size": "64x48"}


@pytest.fixture(scope="module")
def gateway(shared_daemon, tmp_path_factory) -> Iterator[GatewayProcess]:
    running = GatewayProcess(shared_daemon.key, tmp_path_factory.mktemp("roomy") / "tokens.json", first=ROOMY)
    yield running
    running.kill()


@pytest.fixture(scope="module")
def other(gateway, shared_daemon) -> Iterator[httpx.Client]:
    """Somebody else."""
    shared_daemon.enrol("web-eve")
    text, _ = gateway.tokens.add("web-eve")
    with httpx.Client(base_url=gateway.url, headers={"Authorization": f"Bearer {text}"}, timeout=60) as client:
        yield client


class Upload:
    """The request of an edit whose picture is large; it is sent in two parts."""

    def __init__(self, gateway: GatewayProcess, token: str, picture: bytes, **fields: str) -> None:
        form = httpx.Request("POST", gateway.url, data={**FORM, **fields}, files={"image": picture})
        self.body = form.read()
        self.raw = Raw(gateway.url)
        kinds = {"Authorization": f"Bearer {token}", "Content_Type": form.headers["content-type"]}
        self.raw.head("POST /v1/images/edits", **kinds, Content_Length=len(self.body), Connection="close")

    def begin(self, size: int) -> None:
        self.raw.send(self.body[:size])
        self.body = self.body[size:]

    def end(self) -> bytes:
        self.raw.send(self.body)
        with self.raw:
            return self.raw.rest()


def padded(picture: bytes, size: int) -> bytes:
    """The same picture as a file of so many bytes: what stands behind its end is not looked at."""
    return picture + bytes(size - len(picture))


def test_an_upload_of_64_mb_holds_nobody_up(gateway, token, other, picture):
    upload = Upload(gateway, token, padded(picture, 64 * MIB))
    upload.begin(60 * MIB)
    assert other.get("/health").status_code == 200
    with other.stream("GET", "/api/events") as stream:
        lines = stream.iter_lines()
        for _ in range(2):
            assert any(line == "event: status" for line in lines)
        assert other.post("/v1/images/edits", data=FORM, files={"image": picture}).status_code == 200
    own = httpx.get(f"{gateway.url}/api/me", headers={"Authorization": f"Bearer {token}"})
    assert own.status_code == 200, "nor its own user"
    answer = upload.end()
    assert answer.startswith(b"HTTP/1.1 200 ")
    (made,) = json.loads(answer.partition(b"\r\n\r\n")[2])["data"]
    assert Image.open(io.BytesIO(base64.b64decode(made["b64_json"]))).size == (64, 48)


def test_one_user_takes_no_more_than_their_room(gateway, token, other, picture):
    process = psutil.Process(gateway.process.pid)
    first, second = (Upload(gateway, token, padded(picture, 60 * MIB)) for _ in range(2))
    first.begin(59 * MIB)
    second.begin(59 * MIB)
    with second.raw:
        refused = second.raw.rest()
    assert refused.startswith(b"HTTP/1.1 503 ") and b"too_many_pictures" in refused and b"\r\nretry-after:" in refused
    assert other.post("/v1/images/edits", data=FORM, files={"image": picture}).status_code == 200
    assert first.end().startswith(b"HTTP/1.1 200 ")
    again = Upload(gateway, token, padded(picture, 60 * MIB))
    assert again.end().startswith(b"HTTP/1.1 200 "), "the room was given back"
    assert process.memory_info().rss < 500_000_000


def test_large_results_come_whole(gateway, token):
    headers = {"Authorization": f"Bearer {token}"}
    noise = Image.effect_noise((512, 512), 90).convert("RGB")
    file = io.BytesIO()
    noise.save(file, "PNG")
    data = {"prompt": "as it is", "size": "512x512", "steps": "1", "n": "2"}
    answer = httpx.post(
        f"{gateway.url}/v1/images/edits", data=data, files={"image": file.getvalue()}, headers=headers, timeout=60
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-length"] == str(len(answer.content))
    pictures = [base64.b64decode(each["b64_json"], validate=True) for each in answer.json()["data"]]
    assert len(pictures[0]) > 300_000
    assert [Image.open(io.BytesIO(each)).size for each in pictures] == [(512, 512)] * 2
    whole = httpx.get(f"{gateway.url}/api/jobs/{answer.json()['data'][1]['id']}/result", headers=headers)
    assert whole.content == pictures[1] and whole.headers["content-length"] == str(len(pictures[1]))
    stream = httpx.post(
        f"{gateway.url}/v1/images/edits",
        data={**data, "stream": "true"},
        files={"image": file.getvalue()},
        headers=headers,
        timeout=60,
    )
    events = [line.removeprefix("data: ") for line in stream.text.splitlines() if line.startswith("data: ")]
    assert [json.loads(event)["type"] for event in events] == ["image_edit.completed"] * 2


def test_edits_that_wait_hold_no_pictures(gateway, token, picture, tmp_path):
    process = psutil.Process(gateway.process.pid)
    before = process.memory_info().rss
    uploads = []
    for number in range(5):
        large = padded(picture, 40 * MIB + number)
        uploads.append(Upload(gateway, token, large, prompt=f"gate={tmp_path / 'gate'}", stream="true", steps="2"))
        uploads[-1].raw.send(uploads[-1].body)
        uploads[-1].raw.until(b"text/event-stream")
    assert process.memory_info().rss < before + 120_000_000
    (tmp_path / "gate").touch()
    for upload in uploads:
        with upload.raw:
            assert b"image_edit.completed" in upload.raw.rest()
