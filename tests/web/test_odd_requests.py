"""Requests that are allowed and rare, or nonsense: HTTP's smaller print, odd names, and odd numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.web.raw import Raw

FORM = {"prompt": "brighter", "size": "64x48", "steps": "1"}
ODD = ["%00", "..%2f..", "%f0%9f%8c%99", "a" * 300, "a" * 5000, "%ff", "-1", "0", "null", "a%20b", "%27%3b--", "*"]
ROUTES = [
    ("GET", "/api/jobs/{}"),
    ("GET", "/api/jobs/{}/events"),
    ("GET", "/api/jobs/{}/preview"),
    ("GET", "/api/jobs/{}/result"),
    ("GET", "/api/jobs/{}/thumbnail"),
    ("POST", "/api/jobs/{}/cancel"),
    ("DELETE", "/api/jobs/{}"),
    ("GET", "/api/jobs?before={}"),
    ("GET", "/api/sessions/{}"),
    ("DELETE", "/api/sessions/{}"),
    ("POST", "/api/sessions/{}/undo"),
    ("GET", "/api/sessions/none/turns/{}/picture"),
    ("GET", "/api/sessions/{}/turns/0/thumbnail"),
    ("GET", "/v1/models/{}"),
    ("GET", "/page/{}"),
]


@pytest.fixture(scope="module")
def http(gateway, token) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, headers={"Authorization": f"Bearer {token}"}, timeout=30) as client:
        yield client


@pytest.fixture
def raw(gateway) -> Iterator[Raw]:
    with Raw(gateway.url) as connection:
        yield connection


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_odd_names_are_no_defects(http, method, path):
    for odd in ODD:
        answer = http.request(method, path.format(odd))
        assert answer.status_code < 500, (path, odd, answer.text)


@pytest.mark.parametrize("path", ["/", "/health", "/api/me", "/api/events", "/v1/models", "/page/main.js"])
def test_head_has_the_head_alone_and_the_connection_goes_on(http, path):
    answer = http.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert http.get("/health").json() == {"status": "ok"}


def test_the_head_of_a_job_s_events_holds_nothing(http, picture):
    (job,) = http.post("/api/jobs", data=FORM, files={"image": picture}).json()["jobs"]
    answer = http.head(f"/api/jobs/{job['job']}/events")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    assert http.head("/api/jobs/none/events").status_code == 404


@pytest.mark.parametrize(("method", "path"), [("OPTIONS", "/api/me"), ("PUT", "/api/jobs"), ("DELETE", "/v1/models")])
def test_a_wrong_method_is_told_the_right_ones(http, method, path):
    answer = http.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]


def test_another_site_gets_no_leave_by_a_preflight(http):
    asks = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = http.options("/v1/images/edits", headers=asks)
    assert answer.status_code == 405
    assert not any(name.startswith("access-control-") for name in answer.headers)


def test_a_caller_that_waits_for_leave_gets_it_where_the_body_is_wanted(raw, token, picture):
    form = httpx.Request("POST", "http://x", data=FORM, files={"image": picture})
    body = form.read()
    kinds = {"Content_Type": form.headers["content-type"], "Content_Length": len(body), "Expect": "100-continue"}
    raw.head("POST /v1/images/edits", Authorization=f"Bearer {token}", **kinds)
    assert raw.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
    raw.send(body)
    assert raw.status == 200


def test_a_caller_that_waits_for_leave_is_refused_before_it_sends(raw):
    raw.head(
        "POST /v1/images/edits",
        Content_Type="multipart/form-data; boundary=b",
        Content_Length=10**6,
        Expect="100-continue",
    )
    assert raw.status == 401


def test_a_form_in_chunks_is_taken(http, picture):
    form = httpx.Request("POST", "http://x", data=FORM, files={"image": picture})
    body = form.read()

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    answer = http.post("/v1/images/edits", content=pieces(), headers={"Content-Type": form.headers["content-type"]})
    assert answer.status_code == 200, answer.text


def test_two_lengths_of_one_body_are_no_way_to_smuggle_a_request(raw, token):
    kinds = {"Authorization": f"Bearer {token}", "Content_Length": 6, "Transfer_Encoding": "chunked"}
    raw.head("POST /api/quote", **kinds)
    raw.send(b"0\r\n\r\nGET /api/me HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    said = raw.rest()
    assert said.startswith(b"HTTP/1.1 400 ") and b"two_lengths" in said
    assert said.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("last", ["", "0", "-1", "9" * 4000, "nonsense", "\xe9\xff"])
def test_any_last_event_id_is_told_where_things_stand(gateway, token, last):
    headers = [(b"Authorization", f"Bearer {token}".encode()), (b"Last-Event-ID", last.encode("latin-1"))]
    with httpx.stream("GET", f"{gateway.url}/api/events", headers=headers, timeout=30) as stream:
        assert next(stream.iter_lines()) == "event: status"


@pytest.mark.parametrize(
    "target", ["*", "http://evil.example/api/me", "//evil.example/api/me", "/api/me#x", "/api/me?token=x", "/api//me"]
)
def test_other_forms_of_an_address_are_no_way_around_the_token(raw, target):
    raw.head(f"GET {target}", Connection="close")
    assert raw.rest().startswith((b"HTTP/1.1 4", b"HTTP/1.1 3"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("lora", "[" * 30_000), ("redraw", "[" * 30_000), ("lora", '{"a": 1' + "0" * 400 + "}"), ("lora", '{"a": 1e999}')],
)
def test_a_field_of_json_that_python_cannot_take_is_no_defect(http, picture, field, value):
    answer = http.post("/v1/images/edits", data={**FORM, field: value}, files={"image": picture})
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("option", ["self", "timeout", "\ud800"])
def test_a_quote_takes_options_of_an_edit_alone(http, option):
    answer = http.post("/api/quote", content=json.dumps({"sizes": [[64, 64]], option: 1}))
    assert answer.status_code == 400, answer.text
