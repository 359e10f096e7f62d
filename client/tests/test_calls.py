"""The calls of both clients: what help shows of them, what of their options reaches the daemon, how objects read."""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qied_client
from qied_client import AsyncClient, AsyncSession, Client, Session, errors
from qied_client.credentials import read_credential
from qied_client.errors import InvalidRequest, UnknownOption
from qied_client.options import OPTIONS
from qied_client.protocol import messages as m
from qied_client.protocol.request import LoraChoice

CALLS: list[Callable[..., Any]] = [
    *(AsyncClient.edit, AsyncClient.submit, AsyncClient.quote, Client.edit, Client.submit, Client.quote),
    *(AsyncSession.edit, AsyncSession.submit, Session.edit, Session.submit),
]
EXPLICIT = {
    "edit": {"n", "job_id", "timeout", "on_progress"},
    "submit": {"job_id", "on_progress"},
    "quote": set(),
}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__qualname__)
def test_help_and_signature_have_every_option(call: Callable[..., Any]) -> None:
    parameters = inspect.signature(call).parameters
    assert not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    explicit = set(parameters) - set(OPTIONS) - {"self", "images", "prompt"}
    if "Session" in call.__qualname__:
        assert explicit == (EXPLICIT[call.__name__] | {"base", "references"}) - {"n"}
    else:
        assert explicit == EXPLICIT[call.__name__]
    words = " ".join(pydoc.plain(pydoc.render_doc(call)).split())
    for name, option in OPTIONS.items():
        assert f"{name} : {parameters[name].annotation} {option.values}; default {parameters[name].default!r}" in words
    assert all(name in parameters for name in OPTIONS)


@pytest.mark.parametrize(
    ("loras", "chosen"),
    [
        ("style", [("style", 1.0)]),
        ({"style": 0.2}, [("style", 0.2)]),
        (["a/b", ("style", 0.5), {"c": 2}], [("a/b", 1.0), ("style", 0.5), ("c", 2.0)]),
    ],
    ids=str,
)
async def test_loras_reach_the_daemon_with_their_strengths(
    daemon: Any, picture: bytes, loras: Any, chosen: list[tuple[str, float]]
) -> None:
    async with AsyncClient(daemon.key) as client:
        await client.submit(picture, "x", job_id="mine", loras=loras)
        await (await client.session(picture)).submit("x", job_id="turn", loras=loras)
        await client.quote(picture, "x", loras=loras)
    expected = tuple(LoraChoice(*pair) for pair in chosen)
    assert daemon.jobs["mine"].request.loras == daemon.jobs["turn"].request.loras == expected
    quotes = [daemon.wait_for(m.Quote).request.loras for _ in range(2)]
    assert quotes == [expected, expected]


async def test_a_wrong_option_is_refused_before_anything_is_sent(daemon: Any, picture: bytes) -> None:
    async with AsyncClient(daemon.key) as client:
        session = await client.session(picture)
        wrong: dict[str, Any] = {"num_inference_steps": 4}
        for call in (client.edit, client.submit, client.quote):
            with pytest.raises(UnknownOption, match="steps"):
                await call("absent.png", "x", **wrong)
        for turn in (session.edit, session.submit):
            with pytest.raises(UnknownOption, match="steps"):
                await turn("x", **wrong)
        with pytest.raises(InvalidRequest, match="an integer from 1 to 200"):
            await client.edit(picture, "x", steps="forty")  # type: ignore[call-overload]
    assert not daemon.jobs


async def test_a_mask_that_is_none_of_the_pictures_is_called_a_mask(daemon: Any, picture: bytes) -> None:
    async with AsyncClient(daemon.key) as client:
        for call in (client.edit, client.submit, client.quote):
            with pytest.raises(InvalidRequest) as caught:
                await call(picture, "x", mask="absent.png")
            assert caught.value.details["field"] == "mask"


async def test_arrays_may_be_pictures_and_masks(daemon: Any) -> None:
    async with AsyncClient(daemon.key) as client:
        await client.submit(np.zeros((64, 64, 3), np.float32), "x", job_id="mine", mask=np.ones((8, 8), np.bool_))
    request = daemon.jobs["mine"].request
    assert {request.mask, *request.images} == set(daemon.blobs)


async def test_a_result_tells_how_it_was_made(daemon: Any, picture: bytes) -> None:
    made = {
        "steps": 4,
        "true_cfg_scale": 1.0,
        "precision": "fp8",
        "preset": "preview",
        "schedule": "lightning",
        "warnings": ("Lightning LoRAs suit 4 steps.",),
    }
    told = daemon._news
    daemon._news = lambda submit: [
        replace(news, **made) if isinstance(news, m.Result) else news for news in told(submit)
    ]
    async with AsyncClient(daemon.key) as client:
        result = await client.edit(picture, "x", seed=7)
        assert {name: getattr(result, name) for name in made} == made
        daemon._news = told
        old = await client.edit(picture, "x", seed=8)
    assert (old.steps, old.precision, old.warnings) == (0, "", ())


def test_objects_are_short_to_read_and_show_no_secrets(daemon: Any, picture: bytes) -> None:
    credential = read_credential(daemon.key)
    shown = [repr(credential), repr(AsyncClient(credential))]
    with Client(credential) as client:
        session = client.session(picture, name="turns")
        job = session.submit("x", job_id="mine")
        shown += [repr(client), repr(client._client), repr(session), repr(session._session), repr(job), repr(job._job)]
        shown += [repr(client.job("mine"))]
    shown += [repr(client)]
    assert shown == [
        f"Credential(user='ann', endpoint={daemon.address!r})",
        "<AsyncClient, not connected>",
        "<Client ann, echo>",
        "<AsyncClient ann, echo>",
        "<Session 'turns' at turn 1>",
        "<AsyncSession 'turns' at turn 1>",
        "<Job mine, turn 1>",
        "<AsyncJob mine, turn 1>",
        "<Job mine>",
        "<Client ann, echo, closed>",
    ]


def test_what_is_exported_is_there_and_has_a_docstring() -> None:
    assert qied_client.errors is errors
    for name in qied_client.__all__:
        assert getattr(qied_client, name) is not None
    assert {"EditOptions", "Quoted", "StatusReport", "Welcome", "Turn", "Credential"} <= set(qied_client.__all__)
    assert {field.name for field in fields(qied_client.Result)} >= {"precision", "preset", "schedule", "warnings"}


def test_a_result_is_saved_at_home(
    daemon: Any, picture: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "in.png").write_bytes(picture)
    with Client(daemon.key) as client:
        assert client.edit("~/in.png", "x").save("~/out.jpg") == tmp_path / "out.jpg"
