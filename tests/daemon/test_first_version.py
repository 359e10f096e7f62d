"""A client that speaks version 1 of the protocol alone meets no field of version 2."""

from __future__ import annotations

import msgpack
import pytest
from qied_client.protocol import messages as m
from qied_client.protocol.fields import Later, _checks
from qied_client.protocol.request import EditRequest

from tests.daemon.test_fetched_results import wanted


def later_fields(kind: type) -> set[str]:
    return {name for name, (check, _) in _checks(kind).items() if isinstance(check, Later)}


@pytest.fixture
def ask(shared_daemon):
    """Ask with a raw HELLO of version 1, and return headers as they come over the wire."""
    with shared_daemon.raw() as raw:

        def next_header(kind: bytes) -> dict:
            while True:
                assert raw._socket.poll(20_000)
                frames = raw._socket.recv_multipart()
                if frames[0] == kind:
                    return msgpack.unpackb(frames[1])

        def ask(kind: bytes, answer: bytes, **header: object) -> dict:
            raw.send_header(kind, header)
            return next_header(answer)

        welcome = ask(b"HELLO", b"WELCOME", id=1, min_version=1, max_version=1, software="old")
        assert (welcome["version"], set(welcome) & later_fields(m.Welcome)) == (1, set())
        ask.upload = raw.upload
        yield ask


def test_no_field_of_version_2_comes_to_a_client_of_version_1(ask, picture):
    blob = ask.upload(picture)
    request: EditRequest = wanted(blob)
    fields = {"images": [blob], "prompt": "x", "seed": 1, "steps": 1, "width": 64, "height": 64}
    submit = {"id": 50, "job": "old", "request": fields, "payload_hash": request.payload_hash()}
    accepted = ask(b"SUBMIT", b"ACCEPTED", **submit)
    assert set(accepted) & later_fields(m.Accepted) == set()
    result = ask(b"RESUME", b"RESULT", id=51, job="old")
    assert result["state"] == "succeeded"
    assert later_fields(m.Result) >= {"steps", "precision", "preset", "schedule", "warnings"}
    assert set(result) & later_fields(m.Result) == set()
    report = ask(b"STATUS", b"STATUSREPORT", id=52)
    assert set(report) & later_fields(m.StatusReport) == set()
    assert all(set(row) & later_fields(m.WorkerRow) == set() for row in report["workers"])
    quoted = ask(b"QUOTE", b"QUOTED", id=53, request=fields, sizes=[{"width": 64, "height": 48}])
    assert set(quoted) & later_fields(m.Quoted) == set()
    assert ask(b"RELEASE", b"RELEASED", id=54, job="old")["job"] == "old"
    assert ask(b"RESUME", b"ERROR", id=55, job="old")["code"] == "unknown_job"
