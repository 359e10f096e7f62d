"""The OpenAPI document: valid, of all routes and fields and no others, and true of what a real daemon answers."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from qied_client.protocol.fields import Int, Real
from qied_client.web.app import make_app
from qied_client.web.errors import ApiError
from qied_client.web.forms import ALIASES, FIELDS, WITHOUT_EFFECT, edit_form
from qied_client.web.openapi.document import Document
from qied_client.web.security import Hosts
from starlette.datastructures import FormData, UploadFile
from starlette.routing import Route

FORM = {"prompt": "brighter", "size": "64x48", "steps": "2"}


def routes() -> list[Any]:
    guard: Any = make_app(lambda user: None, None, Hosts(()), "local")  # type: ignore[arg-type, return-value]
    return list(guard._app.routes)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return Document().get_schema(routes())


def test_it_is_valid(document):
    validate(document, cls=OpenAPIV31SpecValidator)
    json.dumps(document, allow_nan=False)
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_it_has_every_route_and_no_other(document):
    documented = {(method, path) for path, entry in document["paths"].items() for method in entry}
    wanted = {
        (method.lower(), route.path.replace(":path}", "}"))
        for route in routes()
        if isinstance(route, Route) and route.path != "/"
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert documented == wanted
    assert len({entry["operationId"] for ways in document["paths"].values() for entry in ways.values()}) == len(wanted)


def test_a_route_that_is_not_described_is_noticed():
    async def new(request): ...

    with pytest.raises(KeyError):
        Document().get_schema([*routes(), Route("/api/new", new)])
    with pytest.raises(KeyError, match="without a route"):
        Document().get_schema(routes()[3:])


def test_each_handler_says_which_route_it_is_and_what_it_does():
    for route in routes():
        if isinstance(route, Route) and route.include_in_schema:
            (method,) = (route.methods or {"GET"}) - {"HEAD"}
            path = route.path.replace(":path}", "}")
            line = (route.endpoint.__doc__ or "").splitlines()[0]
            assert line.startswith(f"{method} {path}"), line
            assert line.endswith(".") and ": " in line, line


def test_only_what_names_nothing_is_open_to_all(document):
    open_to_all = {path for path, entry in document["paths"].items() for way in entry.values() if "security" in way}
    assert open_to_all == {"/health", "/ready"}
    assert document["security"] == [{"token": []}]


def test_the_forms_have_the_fields_that_are_read(document):
    fields = set(document["components"]["schemas"]["TurnEdit"]["properties"])
    assert fields == {"image", "mask", "canvas", "redraw_mask", *FIELDS, *WITHOUT_EFFECT}
    assert fields - set(document["components"]["schemas"]["Edit"]["properties"]) == {"base"}
    said = json.dumps(document["components"]["schemas"]["Edit"])
    assert all(alias in said for alias in ALIASES)


async def test_a_picture_that_is_only_enlarged_needs_no_prompt(picture):
    form = FormData([("image", UploadFile(io.BytesIO(picture))), ("task", "upscale"), ("upscale", "2x")])
    options = (await edit_form(form, of_turn=False)).options
    assert (options["task"], options["upscale"]) == ("upscale", "2x")


@pytest.mark.parametrize("name", [name for name, known in FIELDS.items() if isinstance(known.check, (Int, Real))])
async def test_the_limits_of_numbers_are_those_that_are_kept(document, picture, name):
    schema = document["components"]["schemas"]["TurnEdit"]["properties"][name]

    async def taken(value: float) -> bool:
        form = FormData([("image", UploadFile(io.BytesIO(picture))), ("prompt", "x"), (name, f"{value}")])
        try:
            await edit_form(form, of_turn=True)
        except ApiError as error:
            assert error.param == name, error
            return False
        return True

    least, most = schema["minimum"], schema["maximum"]
    step = 1 if schema["type"] == "integer" else 0.5
    assert await taken(least) and await taken(most)
    assert not await taken(least - step) and not await taken(most + step)


# Real answers


@pytest.fixture(scope="module")
def ann(gateway, shared_daemon) -> Iterator[httpx.Client]:
    shared_daemon.enrol("open-ann")
    headers = {"Authorization": f"Bearer {gateway.tokens.add('open-ann')[0]}"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def owner(gateway) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {gateway.tokens.add('local')[0]}"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=60) as client:
        yield client


def strict(schema: Any) -> Any:
    """The same schema, with no members but those that it has."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: strict(each) for name, each in schema.items()}
    if "allOf" in inner:
        inner["unevaluatedProperties"] = False
        inner["allOf"] = [
            {name: each for name, each in one.items() if name != "unevaluatedProperties"} for one in inner["allOf"]
        ]
    elif "properties" in inner:
        inner.setdefault("unevaluatedProperties", False)
    return inner


def check(document: dict[str, Any], answer: httpx.Response, path: str, status: int = 200) -> Any:
    """See that an answer is what the document says of its route; returns its JSON, if it is that."""
    assert answer.status_code == status, answer.text
    way = document["paths"][path][answer.request.method.lower()]
    said = way["responses"].get(str(status)) or document["components"]["responses"]["Error"]
    kind = answer.headers.get("content-type", "").partition(";")[0]
    assert kind in said.get("content", {"": {}}), (kind, said)
    if kind != "application/json":
        return None
    # The description is a part of another answer, where more members come with it.
    schemas = {
        name: each if name == "Description" else strict(each)
        for name, each in document["components"]["schemas"].items()
    }
    schema = {**strict(said["content"][kind]["schema"]), "components": {"schemas": schemas}}
    Draft202012Validator(schema).validate(answer.json())
    return answer.json()


def test_answers_about_the_server_are_as_described(document, ann, owner, gateway):
    for path in (
        "/api/me",
        "/api/loras",
        "/api/upscalers",
        "/api/plan",
        "/api/status",
        "/v1/models",
        "/ready",
        "/health",
        "/openapi.json",
    ):
        for client in (ann, owner):
            check(document, client.get(path), path)
    model = ann.get("/v1/models").json()["data"][0]["id"]
    check(document, ann.get(f"/v1/models/{model}"), "/v1/models/{model}")
    check(document, owner.get("/metrics"), "/metrics")
    check(document, owner.post("/api/control", json={"action": "resume"}), "/api/control")
    check(document, ann.post("/api/quote", json={"sizes": [[640, 480]]}), "/api/quote")
    with httpx.Client(base_url=gateway.url) as stranger:
        assert stranger.get("/openapi.json").status_code == 401
    assert ann.get("/openapi.json").json() == document


def test_answers_about_jobs_are_as_described(document, ann, picture):
    jobs = "/api/jobs"
    check(document, ann.post("/v1/images/edits", data=FORM, files={"image": picture}), "/v1/images/edits")
    made = check(document, ann.post(jobs, data=FORM, files={"image": picture}), jobs, 202)
    job = made["jobs"][0]["job"]
    check(document, ann.get(f"{jobs}/{job}"), "/api/jobs/{job}")
    for kind in ("png", "webp", "jpeg"):
        check(document, ann.get(f"{jobs}/{job}/result?format={kind}"), "/api/jobs/{job}/result")
    check(document, ann.get(f"{jobs}/{job}"), "/api/jobs/{job}")
    check(document, ann.get(f"{jobs}/{job}/thumbnail"), "/api/jobs/{job}/thumbnail")
    check(document, ann.get(f"{jobs}/{job}/events"), "/api/jobs/{job}/events")
    assert check(document, ann.get(jobs), jobs)["jobs"]
    check(document, ann.post(f"{jobs}/{job}/cancel"), "/api/jobs/{job}/cancel")
    check(document, ann.delete(f"{jobs}/{job}"), "/api/jobs/{job}", 204)


def test_answers_about_sessions_are_as_described(document, ann, picture):
    path = "/api/sessions/{session}"
    opened = ann.post("/api/sessions", files={"image": picture}, data={"name": "described"})
    check(document, opened, "/api/sessions", 201)
    made = check(document, ann.post("/api/sessions/described/turns", data=FORM), f"{path}/turns", 202)
    ann.get(f"/api/jobs/{made['jobs'][0]['job']}/result")
    assert check(document, ann.get("/api/sessions/described"), path)["turns"]
    assert check(document, ann.get("/api/sessions"), "/api/sessions")["sessions"]
    check(document, ann.get("/api/sessions/described/turns/1/picture"), f"{path}/turns/{{turn}}/picture")
    check(document, ann.get("/api/sessions/described/turns/1/thumbnail"), f"{path}/turns/{{turn}}/thumbnail")
    check(document, ann.post("/api/sessions/described/undo"), f"{path}/undo")
    check(document, ann.post("/api/sessions/described/redo"), f"{path}/redo")
    check(document, ann.delete("/api/sessions/described"), path, 204)


def test_errors_are_as_described(document, ann, picture):
    wrong = {**FORM, "steps": "1000"}
    check(document, ann.post("/v1/images/edits", data=wrong, files={"image": picture}), "/v1/images/edits", 400)
    check(document, ann.post("/v1/images/generations", json={"prompt": "x"}), "/v1/images/generations", 400)
    check(document, ann.get("/api/jobs/nothing"), "/api/jobs/{job}", 404)
    check(document, ann.get("/metrics"), "/metrics", 403)
    check(document, ann.post("/api/control", json={"action": "pause"}), "/api/control", 403)
