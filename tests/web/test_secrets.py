"""Without a token nothing but the empty page answers, and neither tokens nor prompts are written anywhere."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from qied_client.web.app import make_app
from qied_client.web.security import Hosts
from qied_client.web.tokens import TokenStore
from starlette.routing import Mount, Route

from tests.web.conftest import GatewayProcess

OPEN = {"/", "/page", "/health", "/ready"}
"""What a browser needs to show the page, and what tells a service manager that this runs."""
WORD = "parsimonious-okapi"


def routes() -> list[Any]:
    """Every route of the application."""
    app = make_app(lambda user: pytest.fail("nobody is asked for"), TokenStore(Path("nowhere")), Hosts(["x"]), "local")
    return list(app._app.routes)  # type: ignore[attr-defined]


REQUESTS = [
    (method, route.path)
    for route in routes()
    if isinstance(route, Route) and route.path not in OPEN
    for method in sorted(route.methods or ())
]


def test_all_that_is_open_is_known():
    mounts = {route.path for route in routes() if isinstance(route, Mount)}
    assert mounts <= OPEN
    assert len(REQUESTS) > 25


@pytest.mark.parametrize(("method", "path"), REQUESTS, ids=lambda value: value)
def test_no_route_answers_without_a_token(gateway, token, method, path):
    filled = (
        path.replace("{model:path}", "builtin").replace("{turn}", "1").replace("{job}", "x").replace("{session}", "x")
    )
    assert "{" not in filled
    url = f"{gateway.url}{filled}?token={token}&key={token}&api_key={token}"
    for headers in (
        {},
        {"Authorization": "Bearer qied-wrong"},
        {"Authorization": f"Basic {token}"},
        {"Authorization": "Bearer"},
        {"Cookie": f"token={token}"},
        {"X-Api-Key": token},
    ):
        answer = httpx.request(method, url, headers=headers)
        assert answer.status_code == 401, (headers, answer.text)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert method == "HEAD" or answer.json()["error"]["code"] in ("missing_token", "invalid_token")


@pytest.mark.parametrize(
    "path", ["/page/../tokens.json", "/page/%2e%2e/tokens.json", "/page/..%2f..%2fapp.py", "/page//etc"]
)
def test_the_page_is_no_way_to_other_files(gateway, path):
    with httpx.Client() as client:
        answer = client.get(httpx.URL(gateway.url).copy_with(raw_path=path.encode()))
    assert answer.status_code == 404


@pytest.fixture
def watched(shared_daemon, tmp_path) -> Iterator[GatewayProcess]:
    """A gateway whose standard error is kept in stderr.txt."""
    running = GatewayProcess(shared_daemon.key, tmp_path / "tokens.json", stderr=tmp_path / "stderr.txt")
    yield running
    running.kill()


def test_neither_tokens_nor_prompts_are_logged(watched, shared_daemon, picture, tmp_path):
    shared_daemon.enrol("web-kim")
    text, _ = watched.tokens.add("web-kim", note=WORD)
    with httpx.Client(base_url=watched.url, headers={"Authorization": f"Bearer {text}"}, timeout=30) as http:

        def edit(prompt: str, **data: str) -> httpx.Response:
            data = {"prompt": f"{prompt} {WORD}", "size": "64x48", "negative_prompt": WORD, **data}
            return http.post("/v1/images/edits", data=data, files={"image": (f"{WORD}.png", picture)})

        assert edit("brighter").status_code == 200
        assert "completed" in edit("brighter", stream="true", partial_images="2").text
        assert edit("fail").status_code == 500
        assert edit("brighter", steps=WORD).status_code == 400
        assert edit("brighter", **{WORD: WORD}).status_code == 400
        assert http.get(f"/api/jobs/{WORD}").status_code == 404
        assert http.get(f"/{WORD}?prompt={WORD}").status_code == 404
        with pytest.raises(httpx.ReadTimeout):
            http.post(
                "/v1/images/edits",
                data={"prompt": f"gate={tmp_path / 'gate'} {WORD}"},
                files={"image": picture},
                timeout=httpx.Timeout(30, read=0.5),
            )
        (tmp_path / "gate").touch()
    host, port = watched.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(f"GARBAGE {text} {WORD}\r\n\r\n".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 400")
    assert watched.stop() == 0
    written = (tmp_path / "stderr.txt").read_text() + "".join(map(str, shared_daemon.log))
    assert text not in written and WORD not in written
    assert "Traceback" not in written


def test_a_file_of_tokens_that_is_damaged_lets_nobody_in_and_is_told_once(watched, tmp_path):
    text, _ = watched.tokens.add("local")
    headers = {"Authorization": f"Bearer {text}"}
    assert httpx.get(f"{watched.url}/api/me", headers=headers).status_code == 200
    kept = (tmp_path / "tokens.json").read_bytes()
    (tmp_path / "tokens.json").write_bytes(kept[:40])
    for _ in range(3):
        answer = httpx.get(f"{watched.url}/api/me", headers=headers)
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "tokens_unreadable"
        assert str(tmp_path) not in answer.text
    assert httpx.get(f"{watched.url}/health").status_code == 200
    (tmp_path / "tokens.json").write_bytes(kept)
    assert httpx.get(f"{watched.url}/api/me", headers=headers).status_code == 200
    watched.stop()
    assert (tmp_path / "stderr.txt").read_text().count("is damaged") == 1
