"""Pictures that form: streams of the built-in model, and what becomes of an edit whose caller leaves."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import httpx
import openai
import pytest
from PIL import Image

from qied.resources import builtin_model_folder
from tests.daemon.conftest import DaemonProcess
from tests.web.conftest import GatewayProcess

PICTURE = builtin_model_folder().parent / "demo.png"


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory, daemon_process) -> Iterator[DaemonProcess]:
    """One daemon with the built-in model."""
    daemon = daemon_process(tmp_path_factory.mktemp("builtin") / "home", engine="qied.engine.serving:load")
    yield daemon.start()
    daemon.kill()


@pytest.fixture
def sdk(gateway: GatewayProcess, token: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=token, max_retries=0) as client:
        yield client


def size_of(event) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(event.b64_json))).size


def edit(sdk, **options):
    with PICTURE.open("rb") as file:
        return sdk.images.edit(image=file, prompt="make the red heart blue", **options)


def test_a_stream_shows_partial_pictures_and_then_the_whole(sdk):
    stream = edit(sdk, size="128x128", stream=True, partial_images=3, extra_body={"steps": 20})
    events = list(stream)
    partial = [event for event in events if event.type == "image_edit.partial_image"]
    assert [event.partial_image_index for event in partial] == [0, 1, 2]
    assert all(size_of(event)[0] > 0 for event in partial)
    assert [event.type for event in events if event not in partial] == ["image_edit.completed"]
    assert size_of(events[-1]) == (128, 128)


def test_an_error_on_the_way_ends_the_stream_as_the_sdk_knows_it(sdk, shared_daemon, token):
    stream = edit(sdk, stream=True, partial_images=1, extra_body={"steps": 150})
    next(iter(stream))
    with shared_daemon.client(shared_daemon.home.parent / "web-lin.key.json") as client:
        (row,) = [row for row in client.status().jobs if row.job]
        client.cancel(row.job)
    with pytest.raises(openai.APIError, match="cancelled"):
        list(stream)


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_who_leaves_takes_the_edit_along(gateway, token, shared_daemon, stream):
    data = {"prompt": "make the red heart blue", "steps": "150", "stream": str(stream).lower(), "partial_images": "3"}
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=30) as http:
        request = http.build_request(
            "POST", f"{gateway.url}/v1/images/edits", data=data, files={"image": PICTURE.read_bytes()}
        )
        if stream:
            response = http.send(request, stream=True)
            next(response.iter_lines())
            response.close()
        else:
            with pytest.raises(httpx.ReadTimeout):
                request.extensions["timeout"]["read"] = 1.0
                http.send(request)
    with shared_daemon.client(shared_daemon.home.parent / "web-lin.key.json") as client:
        (newest,) = client.jobs(limit=1)
        assert client.job(newest.id).outcome().state == "cancelled"


def test_a_retried_request_runs_once_though_the_gateway_was_killed(shared_daemon, tmp_path):
    shared_daemon.enrol("web-ida")
    tokens = tmp_path / "tokens.json"
    first = GatewayProcess(shared_daemon.key, tokens)
    text = first.tokens.add("web-ida")[0]
    headers = {"Authorization": f"Bearer {text}", "Idempotency-Key": "poster-7"}
    data = {"prompt": "make the red heart blue", "steps": "30", "size": "128x128"}
    with httpx.Client(headers=headers, timeout=60) as http:
        request = http.build_request(
            "POST", f"{first.url}/v1/images/edits", data=data, files={"image": PICTURE.read_bytes()}
        )
        request.extensions["timeout"]["read"] = 0.8
        with pytest.raises(httpx.ReadTimeout):
            http.send(request)
        first.kill()
        second = GatewayProcess(shared_daemon.key, tokens)
        try:
            answers = [
                http.post(f"{second.url}/v1/images/edits", data=data, files={"image": PICTURE.read_bytes()}).json()
                for _ in range(2)
            ]
            other = http.post(
                f"{second.url}/v1/images/edits", data={**data, "steps": "2"}, files={"image": PICTURE.read_bytes()}
            )
        finally:
            second.kill()
    assert answers[0]["data"][0] == answers[1]["data"][0]
    assert other.status_code == 422 and other.json()["error"]["code"] == "job_conflict"
    started = [line for line in shared_daemon.log if line.get("job") == answers[0]["data"][0]["id"]]
    assert sum(line["event"] == "finished" for line in started) == 1


def test_a_picture_that_forms_is_fetched_by_who_shows_it(gateway, token):
    headers = {"Authorization": f"Bearer {token}"}
    form = {"prompt": "make the red heart blue", "size": "256x256", "steps": "40"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=60) as http:
        (job,) = http.post("/api/jobs", data=form, files={"image": PICTURE.read_bytes()}).json()["jobs"]
        path = f"/api/jobs/{job['job']}"
        with http.stream("GET", f"{path}/events") as stream:
            lines = stream.iter_lines()
            assert any(line.startswith("data: ") and '"kind": "preview"' in line for line in lines)
            tags, again = [], httpx.Response(200)
            while again.status_code != 304:  # a newer one may come between the two
                first = http.get(f"{path}/preview")
                tags.append(int(first.headers["etag"].strip('"')))
                again = http.get(f"{path}/preview", headers={"If-None-Match": first.headers["etag"]})
            assert Image.open(io.BytesIO(first.content)).format == "JPEG"
            assert tags == sorted(tags) and 0 < tags[-1] <= 40
            assert http.post(f"{path}/cancel").status_code == 200
            assert any(line == "event: outcome" for line in lines)
        assert http.get(f"{path}/preview").status_code == 204
        assert http.get("/api/jobs/none/preview").status_code == 404
