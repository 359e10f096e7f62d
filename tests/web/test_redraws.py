"""Redraws through the web gateway: the fields of its forms, and what comes of them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from qied_client.picture_metadata import read_metadata

BOX = (16, 8, 24, 32)


@pytest.fixture(scope="module")
def web(gateway, shared_daemon) -> Iterator[httpx.Client]:
    shared_daemon.enrol("web-redraw")
    text, _ = gateway.tokens.add("web-redraw")
    with httpx.Client(base_url=gateway.url, headers={"Authorization": f"Bearer {text}"}, timeout=60) as client:
        yield client


@pytest.fixture
def canvas(make_picture) -> bytes:
    return make_picture(64, 48, (200, 100, 50))


@pytest.fixture
def mask() -> bytes:
    painted, file = Image.new("L", (64, 48)), io.BytesIO()
    painted.paste(255, (BOX[0], BOX[1], BOX[0] + BOX[2], BOX[1] + BOX[3]))
    painted.save(file, "PNG")
    return file.getvalue()


def edited(web: httpx.Client, files: dict[str, bytes], **form: str) -> bytes:
    answer = web.post("/v1/images/edits", data={"prompt": "brighter", "steps": "3", **form}, files=files)
    assert answer.status_code == 200, answer.text
    return base64.b64decode(answer.json()["data"][0]["b64_json"])


def changed(before: bytes, after: bytes) -> np.ndarray[Any, Any]:
    one, other = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in (before, after))
    return (one != other).any(axis=2)


@pytest.mark.parametrize(
    "redraw",
    [
        "16,8,24,32,strength=1,padding=4",
        json.dumps({"box": BOX, "strength": 1.0, "padding": 4}),
        json.dumps([{"box": BOX, "strength": 1, "padding": 4, "feather": 0}]),
    ],
)
def test_a_box_on_a_canvas_changes_alone(web, canvas, redraw):
    made = edited(web, {"image": canvas, "canvas": canvas}, redraw=redraw)
    inside = np.zeros((48, 64), bool)
    inside[BOX[1] : BOX[1] + BOX[3], BOX[0] : BOX[0] + BOX[2]] = True
    assert not changed(canvas, made)[~inside].any() and changed(canvas, made)[inside].all()
    metadata = read_metadata(made)
    assert metadata is not None and metadata.canvas is not None
    assert metadata.redraw[0].startswith("16,8,24,32,strength=1,padding=4")


def test_a_mask_is_a_file_of_its_own_and_says_where(web, canvas, mask):
    made = edited(web, {"image": canvas, "canvas": canvas, "redraw_mask": mask}, redraw='{"strength": 0.5}')
    metadata = read_metadata(made)
    assert metadata is not None
    assert metadata.redraw[0].startswith("16,8,24,32,mask=") and "padding" not in metadata.redraw[0]
    assert changed(canvas, made).sum() == BOX[2] * BOX[3]


def test_passes_of_the_same_job_and_a_refiner(web, canvas):
    made = edited(web, {"image": canvas}, redraw="0,0,8,8; 16,8,24,32,strength=0.4", refine="0.3", size="64x48")
    metadata = read_metadata(made)
    assert metadata is not None and metadata.canvas is None
    assert [each.split(",steps")[0] for each in metadata.redraw] == [
        "0,0,8,8",
        "16,8,24,32,strength=0.4",
        "0,0,64,48,strength=0.3,padding=0,feather=0",
    ]


def test_a_turn_of_a_session_draws_on_the_picture_before_it(web, canvas, mask):
    web.post("/api/sessions", files={"image": canvas}, data={"name": "again"}).raise_for_status()
    form = {"prompt": "brighter", "steps": "3", "base": "0", "redraw": '{"strength": 1}'}
    files = {"canvas": canvas, "redraw_mask": mask}
    (job,) = web.post("/api/sessions/again/turns", data=form, files=files).json()["jobs"]
    made = web.get(f"/api/jobs/{job['job']}/result").content
    assert changed(canvas, made).sum() == BOX[2] * BOX[3]
    assert [(turn["turn"], turn["base"]) for turn in web.get("/api/sessions/again").json()["turns"]] == [(1, 0)]


def test_a_price_of_a_redraw(web):
    body = {"sizes": [[64, 48]], "canvas_size": [64, 48], "redraw": [{"strength": 0.5}], "steps": 8}
    assert web.post("/api/quote", json=body).json()["forwards"] == 4


@pytest.mark.parametrize(
    ("form", "files", "told"),
    [
        ({"redraw": "1,2,3"}, {}, "does not begin with a box"),
        ({"redraw": '{"boxes": 1}'}, {}, "'boxes' is not an option of a pass"),
        ({"redraw": '{"mask": "/etc/passwd"}'}, {}, "Send it as `redraw_mask`"),
        ({"redraw": "90,0,8,8"}, {"canvas"}, "off the picture of 64 x 48"),
        ({}, {"canvas"}, "nothing is to be drawn on it"),
        ({"redraw": "0,0,8,8", "size": "64x48"}, {"canvas"}, "a canvas has none"),
        ({"redraw": '{"precision": "bf16"}'}, {}, "not in 'bf16'"),
        ({"redraw": "0,0,8,8,strength=2"}, {}, "strength"),
        ({"redraw_mask": "text"}, {}, "redraw_mask must be a file"),
    ],
)
def test_what_is_wrong_is_said(web, canvas, form, files, told):
    sent = {"image": canvas, **dict.fromkeys(files, canvas)}
    answer = web.post("/v1/images/edits", data={"prompt": "x", "steps": "1", **form}, files=sent)
    assert answer.status_code == 400 and told in answer.json()["error"]["message"], answer.text
