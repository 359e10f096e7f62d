"""The jobs API as the page and scripts use it: jobs, sessions, events, and what one user sees of others."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

FORM = {"prompt": "brighter", "size": "64x48", "steps": "2"}


def user(gateway, shared_daemon, name: str) -> httpx.Client:
    shared_daemon.enrol(name)
    text, _ = gateway.tokens.add(name)
    return httpx.Client(base_url=gateway.url, headers={"Authorization": f"Bearer {text}"}, timeout=60)


@pytest.fixture(scope="module")
def ann(gateway, shared_daemon) -> Iterator[httpx.Client]:
    with user(gateway, shared_daemon, "api-ann") as client:
        yield client


@pytest.fixture(scope="module")
def bob(gateway, shared_daemon) -> Iterator[httpx.Client]:
    with user(gateway, shared_daemon, "api-bob") as client:
        yield client


@pytest.fixture
def owner(gateway) -> Iterator[httpx.Client]:
    text, _ = gateway.tokens.add("local")
    with httpx.Client(base_url=gateway.url, headers={"Authorization": f"Bearer {text}"}, timeout=60) as client:
        yield client


def picture_of(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


def events(lines) -> Iterator[tuple[str, dict]]:
    name, data = "", ""
    for line in lines:
        if line.startswith("event:"):
            name = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            data = line.removeprefix("data:").strip()
        elif not line and data:
            yield name, json.loads(data)
            name = data = ""


def test_who_asks_and_what_there_is(ann, owner):
    me = ann.get("/api/me").json()
    assert (me["user"], me["owner"]) == ("api-ann", False)
    assert {preset["name"] for preset in me["presets"]} >= {"preview", "draft", "final"}
    assert me["max_pixels"] > 0 and me["side_multiple"] == 16
    assert set(me["picture_formats"]) >= {"png", "jpeg", "webp"}
    assert owner.get("/api/me").json()["owner"] is True
    assert "builtin-outline" in [lora["name"] for lora in ann.get("/api/loras").json()["loras"]]
    upscalers = ann.get("/api/upscalers").json()["upscalers"]
    assert {"name": "builtin-2x", "scale": 2, "architecture": "compact", "precision": "fp32"} in upscalers


def test_a_job_from_submission_to_its_picture_in_three_formats(ann, picture):
    (job,) = ann.post("/api/jobs", data=FORM, files={"image": picture}).json()["jobs"]
    with ann.stream("GET", f"/api/jobs/{job['job']}/events") as stream:
        seen = list(events(stream.iter_lines()))
    assert seen[-1][0] == "outcome" and seen[-1][1]["state"] == "succeeded"
    assert picture_of(ann.get(f"/api/jobs/{job['job']}/result")).format == "PNG"
    for kind in ("webp", "jpeg"):
        assert picture_of(ann.get(f"/api/jobs/{job['job']}/result?format={kind}")).format == kind.upper()
    assert picture_of(ann.get(f"/api/jobs/{job['job']}/thumbnail")).format == "JPEG"
    status = ann.get(f"/api/jobs/{job['job']}").json()
    assert (status["prompt"], status["seed"], status["state"]) == ("brighter", job["seed"], "succeeded")
    assert job["job"] in [row["id"] for row in ann.get("/api/jobs").json()["jobs"]]
    assert ann.delete(f"/api/jobs/{job['job']}").status_code == 204
    assert ann.get(f"/api/jobs/{job['job']}/result").status_code == 404


def test_a_recipe_of_a_form_is_one_job_and_its_fields_go_first(ann, picture):
    form = {**FORM, "recipe": "preview", "preemptible": "true"}
    (job,) = ann.post("/api/jobs", data=form, files={"image": picture}).json()["jobs"]
    for _ in ann.get(f"/api/jobs/{job['job']}/events").iter_lines():
        pass
    facts = ann.get(f"/api/jobs/{job['job']}").json()
    assert (facts["preset"], facts["steps"], facts["media_type"]) == ("preview", 2, "image/webp")
    refused = ann.post("/api/jobs", data={**FORM, "recipe": "../preview"}, files={"image": picture})
    assert refused.status_code == 400 and "There is no recipe" in refused.text


def test_a_stream_that_comes_back_says_where_the_job_stands(ann, picture, tmp_path):
    gate = tmp_path / "gate"
    form = {**FORM, "prompt": f"gate={gate}"}
    (job,) = ann.post("/api/jobs", data=form, files={"image": picture}).json()["jobs"]
    with ann.stream("GET", f"/api/jobs/{job['job']}/events") as stream:
        name, told = next(events(stream.iter_lines()))
    assert name == "job" and told["job"] == job["job"]
    gate.touch()
    with ann.stream("GET", f"/api/jobs/{job['job']}/events", headers={"Last-Event-ID": "1"}) as stream:
        assert list(events(stream.iter_lines()))[-1][1]["state"] == "succeeded"


@pytest.mark.parametrize("wanted", ["png", "webp", "jpeg"])
def test_a_picture_is_converted_for_browsers_that_do_not_read_it(ann, wanted):
    source = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(source, "AVIF")
    made = picture_of(ann.post(f"/api/pictures?format={wanted}", files={"image": source.getvalue()}))
    assert (made.format, made.size) == (wanted.upper(), (64, 48))


@pytest.mark.parametrize(("query", "file"), [("?format=gif", b"x"), ("", b"no picture"), ("", b"")])
def test_what_cannot_be_converted_is_refused(ann, query, file):
    assert ann.post(f"/api/pictures{query}", files={"image": file}).status_code == 400


def test_a_job_can_be_cancelled(ann, picture, tmp_path):
    gate = tmp_path / "gate"
    form = {**FORM, "prompt": f"gate={gate}"}
    (job,) = ann.post("/api/jobs", data=form, files={"image": picture}).json()["jobs"]
    assert ann.post(f"/api/jobs/{job['job']}/cancel").json() == {"answer": "cancelled"}
    gate.touch()
    assert ann.get(f"/api/jobs/{job['job']}/result").json()["error"]["code"] == "job_cancelled"


def test_a_session_branches_and_goes_back(ann, picture):
    session = ann.post("/api/sessions", files={"image": picture}, data={"name": "poster"}).json()
    assert (session["name"], session["head"], session["turns"]) == ("poster", 0, [])
    for base in (0, 1, 0):
        form = {**FORM, "base": str(base), "prompt": f"from {base}"}
        (job,) = ann.post("/api/sessions/poster/turns", data=form).json()["jobs"]
        ann.get(f"/api/jobs/{job['job']}/result")
    session = ann.get("/api/sessions/poster").json()
    assert [(turn["turn"], turn["base"], turn["prompt"]) for turn in session["turns"]] == [
        (1, 0, "from 0"),
        (2, 1, "from 1"),
        (3, 0, "from 0"),
    ]
    assert ann.post("/api/sessions/poster/undo").json() == {"head": 0}
    assert ann.post("/api/sessions/poster/redo").json() == {"head": 3}
    assert picture_of(ann.get("/api/sessions/poster/turns/0/picture")).size == (64, 48)
    assert picture_of(ann.get("/api/sessions/poster/turns/2/picture?format=jpeg")).format == "JPEG"
    assert picture_of(ann.get("/api/sessions/poster/turns/1/thumbnail")).format == "JPEG"
    assert [row["name"] for row in ann.get("/api/sessions").json()["sessions"]] == ["poster"]
    assert ann.delete("/api/sessions/poster").status_code == 204
    assert ann.get("/api/sessions/poster").json()["error"]["code"] == "unknown_session"


def test_variations_of_a_turn_are_turns_with_seeds_that_follow(ann, picture):
    ann.post("/api/sessions", files={"image": picture}, data={"name": "four"})
    form = {**FORM, "base": "0", "n": "4", "seed": "7"}
    jobs = ann.post("/api/sessions/four/turns", data=form, files={"image": picture}).json()["jobs"]
    assert [job["seed"] for job in jobs] == [7, 8, 9, 10]
    assert [job["turn"] for job in jobs] == [1, 2, 3, 4]


def test_the_feed_has_the_state_of_the_server_and_all_own_jobs(ann, bob, picture, tmp_path):
    gate = tmp_path / "gate"
    (theirs,) = bob.post("/api/jobs", data=FORM, files={"image": picture}).json()["jobs"]
    with ann.stream("GET", "/api/events") as stream:
        feed = events(stream.iter_lines())
        status = next(data for name, data in feed if name == "status")
        assert status["reachable"] and status["workers"]
        (job,) = ann.post("/api/jobs", data={**FORM, "prompt": f"gate={gate}"}, files={"image": picture}).json()["jobs"]
        gate.touch()
        seen = []
        for name, data in feed:
            seen.append((name, data.get("job")))
            if (name, data.get("job")) == ("outcome", job["job"]):
                break
    assert ("job", job["job"]) in seen
    assert not any(who == theirs["job"] for _, who in seen)


def test_nobody_sees_the_jobs_and_sessions_of_another(ann, bob, picture):
    (job,) = ann.post("/api/jobs", data=FORM, files={"image": picture}).json()["jobs"]
    ann.post("/api/sessions", files={"image": picture}, data={"name": "mine"})
    for path in (f"/api/jobs/{job['job']}", f"/api/jobs/{job['job']}/result", "/api/sessions/mine"):
        assert bob.get(path).status_code == 404
    assert job["job"] not in [row["id"] for row in bob.get("/api/jobs").json()["jobs"]]


def test_a_price_without_a_picture(ann):
    quoted = ann.post("/api/quote", json={"sizes": [[640, 480]], "preset": "preview", "on_cap": "fit"}).json()
    assert quoted["steps"] == 4 and quoted["width"] % 16 == 0 and quoted["fits"] in (True, False)
    wrong = ann.post("/api/quote", json={"sizes": [[640, 480]], "sede": 3}).json()["error"]
    assert wrong["code"] == "unknown_option" and "seed" in wrong["message"]


def test_only_the_owner_gives_orders(ann, owner):
    assert ann.post("/api/control", json={"action": "pause"}).status_code == 403
    assert owner.post("/api/control", json={"action": "pause"}).json()["action"] == "pause"
    assert owner.get("/api/status").json()["paused"] is True
    assert owner.post("/api/control", json={"action": "resume"}).status_code == 200
    assert owner.post("/api/control", json={"action": "dance"}).status_code == 400


def test_without_a_token_there_is_the_shell_of_the_page_and_nothing_else(gateway):
    with httpx.Client(base_url=gateway.url) as http:
        assert "<title>qied</title>" in http.get("/").text
        for path in ("/page/main.js", "/page/style.css", "/page/icon.svg", "/health"):
            assert http.get(path).status_code == 200
        for path in ("/api/me", "/api/events", "/api/jobs", "/api/status", "/v1/models", "/api/sessions"):
            assert http.get(path).status_code == 401
        assert http.post("/api/jobs", data=FORM, files={"image": b"x"}).status_code == 401
