"""What the gateway refuses before anything reads it, and that nothing else is disturbed."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import httpx
import pytest

FORM = {"prompt": "brighter", "size": "64x48"}


@pytest.fixture
def http(gateway, token):
    with httpx.Client(base_url=gateway.url, headers={"Authorization": f"Bearer {token}"}, timeout=30) as client:
        yield client


def works(http, picture) -> bool:
    answer = http.post("/v1/images/edits", data=FORM, files={"image": picture})
    return answer.status_code == 200


def error(answer: httpx.Response) -> str:
    return answer.json()["error"]["code"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", ""])
def test_a_name_that_is_not_ours_is_refused(http, host):
    answer = http.get("/v1/models", headers={"Host": host})
    assert answer.status_code == 421 and error(answer) == "wrong_host"


@pytest.mark.parametrize("host", ["localhost:7448", "127.0.0.1", "[::1]:80", "192.0.2.7:7448"])
def test_our_names_and_addresses_are_taken(http, host):
    assert http.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", "null"])
def test_pages_of_others_may_not_post(http, origin, picture):
    answer = http.post("/v1/images/edits", data=FORM, files={"image": picture}, headers={"Origin": origin})
    assert answer.status_code == 403 and error(answer) == "wrong_origin"


def test_our_own_page_may_post(http, gateway, picture):
    answer = http.post("/v1/images/edits", data=FORM, files={"image": picture}, headers={"Origin": gateway.url})
    assert answer.status_code == 200


def test_answers_carry_what_keeps_browsers_safe(http):
    headers = http.get("/health").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe-inline" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff" and "server" not in headers


def test_a_token_in_the_query_does_not_count(gateway, token):
    assert httpx.get(f"{gateway.url}/v1/models?token={token}&key={token}").status_code == 401


def test_a_removed_token_is_refused_at_once(gateway, shared_daemon):
    shared_daemon.enrol("web-mia")
    text, token = gateway.tokens.add("web-mia")
    headers = {"Authorization": f"Bearer {text}"}
    assert httpx.get(f"{gateway.url}/v1/models", headers=headers).status_code == 200
    gateway.tokens.remove(token.id)
    assert httpx.get(f"{gateway.url}/v1/models", headers=headers).status_code == 401


def test_a_token_of_somebody_who_is_not_enrolled_is_refused_with_the_reason(gateway):
    text, _ = gateway.tokens.add("web-nobody")
    answer = httpx.get(f"{gateway.url}/v1/models", headers={"Authorization": f"Bearer {text}"})
    assert answer.status_code == 403 and "web-nobody" in answer.json()["error"]["message"]


def test_ten_thousand_fields_are_refused(http, picture):
    answer = http.post("/v1/images/edits", data={f"f{n}": "x" for n in range(10_000)}, files={"image": picture})
    assert answer.status_code == 400 and error(answer) == "invalid_form"
    assert works(http, picture)


def test_a_hundred_files_are_refused(http, picture):
    answer = http.post("/v1/images/edits", data=FORM, files=[("image[]", picture)] * 100)
    assert answer.status_code == 400 and error(answer) == "invalid_form"


def test_a_long_field_is_refused(http, picture):
    answer = http.post("/v1/images/edits", data={**FORM, "prompt": "x" * 200_000}, files={"image": picture})
    assert answer.status_code == 400 and error(answer) == "invalid_form"


def test_a_body_that_says_it_is_huge_is_refused_before_it_comes(gateway, token):
    address = urlsplit(gateway.url)
    head = (
        f"POST /v1/images/edits HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9000000000\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(head.encode())
        assert b"413" in connection.recv(4096).split(b"\r\n")[0]


def test_a_body_without_an_end_is_cut_off(gateway, token, http, picture):
    address = urlsplit(gateway.url)
    head = (
        f"POST /v1/images/edits HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    piece = b"%x\r\n" % (1 << 20) + b"a" * (1 << 20) + b"\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(head.encode() + b"%x\r\n" % len(part) + part + b"\r\n")
        try:
            for _ in range(400):
                connection.sendall(piece)
            seen = connection.recv(4096)
        except OSError:
            seen = b"413"
        assert b"413" in seen
    assert works(http, picture)


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"GIF89a" + b"\0" * 40])
def test_what_is_not_a_picture_is_refused(http, data):
    answer = http.post("/v1/images/edits", data=FORM, files={"image": ("x.png", data)})
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error"


def test_json_is_not_a_form(http):
    answer = http.post("/v1/images/edits", json=FORM)
    assert answer.status_code == 400 and error(answer) == "wrong_content_type"


def test_an_unknown_route_answers_in_the_same_shape(http):
    answer = http.get("/v1/images/variations")
    assert answer.status_code == 404 and error(answer) == "unknown_route"
