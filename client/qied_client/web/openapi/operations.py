"""What each route takes and answers, by method and path as the document has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from qied_client.web.openapi.schemas import Schema
from qied_client.web.openapi.shapes import TEXT, WHOLE, Shapes, listed, record

_FORMATS: Final = ("image/png", "image/webp", "image/jpeg")
_MULTIPART: Final = "multipart/form-data"
_JSON: Final = "application/json"


@dataclass(frozen=True)
class Operation:
    """One route: statuses with what the answer holds by media type, the body likewise, and the query's parameters.

    ``open_to_all``: without a token. ``repeatable``: an ``Idempotency-Key`` makes the same request the same job.
    """

    answers: Mapping[int, Mapping[str, Schema]]
    body: Mapping[str, Schema] = field(default_factory=dict)
    query: Mapping[str, Schema] = field(default_factory=dict)
    open_to_all: bool = False
    repeatable: bool = False


def operations(shapes: Shapes) -> dict[tuple[str, str], Operation]:
    """All of them."""
    return {**_openai(shapes), **_machine(shapes), **_jobs(shapes), **_sessions(shapes)}


def _openai(shapes: Shapes) -> dict[tuple[str, str], Operation]:
    edit = {_MULTIPART: shapes.edit}
    models = record(object={"const": "list"}, data=listed(shapes.model()))
    return {
        ("post", "/v1/images/edits"): Operation(
            {200: {_JSON: shapes.images(), **_stream("image_edit.partial_image, image_edit.completed, error")}},
            edit,
            repeatable=True,
        ),
        ("post", "/v1/images/generations"): Operation(
            {
                200: {
                    _JSON: shapes.images(),
                    **_stream("image_generation.partial_image, image_generation.completed, error"),
                }
            },
            {_JSON: shapes.generation, _MULTIPART: shapes.generation},
            repeatable=True,
        ),
        ("get", "/v1/models"): _json(models),
        ("get", "/v1/models/{model}"): _json(shapes.model()),
    }


def _machine(shapes: Shapes) -> dict[tuple[str, str], Operation]:
    ready = {_JSON: shapes.readiness()}
    return {
        ("get", "/health"): Operation({200: {_JSON: record(status={"const": "ok"})}}, open_to_all=True),
        ("get", "/ready"): Operation({200: ready, 503: ready}, open_to_all=True),
        ("get", "/metrics"): Operation({200: {"text/plain": TEXT}}),
        ("get", "/openapi.json"): _json({"type": "object"}),
        ("get", "/api/me"): _json(shapes.me()),
        ("get", "/api/loras"): _json(record(loras=listed(shapes.lora))),
        ("get", "/api/upscalers"): _json(record(upscalers=listed(shapes.upscaler))),
        ("get", "/api/plan"): _json(shapes.plan()),
        ("get", "/api/status"): _json(shapes.status),
        ("get", "/api/events"): Operation({200: _stream("status, job, outcome")}),
        ("post", "/api/quote"): Operation({200: {_JSON: shapes.quoted}}, {_JSON: shapes.quote()}),
        ("post", "/api/control"): Operation({200: {_JSON: shapes.controlled}}, {_JSON: shapes.control()}),
    }


def _jobs(shapes: Shapes) -> dict[tuple[str, str], Operation]:
    job = "/api/jobs/{job}"
    return {
        ("get", "/api/jobs"): Operation(
            {200: {_JSON: record(jobs=listed(shapes.job_row))}}, query={"before": {**WHOLE, "minimum": 0}}
        ),
        ("post", "/api/jobs"): Operation(
            {202: {_JSON: shapes.submitted()}}, {_MULTIPART: shapes.any_edit()}, repeatable=True
        ),
        ("get", job): _json(shapes.job),
        ("delete", job): Operation({204: {}}),
        ("get", f"{job}/events"): Operation({200: _stream("job, outcome")}),
        ("get", f"{job}/preview"): Operation({200: {"image/jpeg": {}}, 204: {}, 304: {}}),
        ("get", f"{job}/result"): _picture(),
        ("get", f"{job}/thumbnail"): Operation({200: {"image/jpeg": {}}}),
        ("post", "/api/pictures"): Operation(_picture().answers, {_MULTIPART: _with_image()}, _picture().query),
        ("post", f"{job}/cancel"): _json(record(answer={"type": "string", "enum": ["cancelled", "finished"]})),
    }


def _sessions(shapes: Shapes) -> dict[tuple[str, str], Operation]:
    session = "/api/sessions/{session}"
    head = _json(record(head=WHOLE))
    return {
        ("get", "/api/sessions"): _json(record(sessions=listed(shapes.session_row))),
        ("post", "/api/sessions"): Operation({201: {_JSON: shapes.session}}, {_MULTIPART: _with_image(name=TEXT)}),
        ("get", session): _json(shapes.session),
        ("delete", session): Operation({204: {}}),
        ("post", f"{session}/turns"): Operation(
            {202: {_JSON: shapes.submitted()}}, {_MULTIPART: shapes.turn_edit}, repeatable=True
        ),
        ("post", f"{session}/undo"): head,
        ("post", f"{session}/redo"): head,
        ("get", f"{session}/turns/{{turn}}/picture"): _picture(),
        ("get", f"{session}/turns/{{turn}}/thumbnail"): Operation({200: {"image/jpeg": {}}}),
    }


def _with_image(**others: Schema) -> Schema:
    picture = {"type": "string", "format": "binary"}
    return {"type": "object", "properties": {"image": picture, **others}, "required": ["image"]}


def _json(schema: Schema) -> Operation:
    return Operation({200: {_JSON: schema}})


def _picture() -> Operation:
    wanted = {"format": {"type": "string", "enum": ["png", "webp", "jpeg"]}}
    return Operation({200: {kind: {} for kind in _FORMATS}}, query=wanted)


def _stream(events: str) -> dict[str, Any]:
    return {"text/event-stream": {**TEXT, "description": f"Server-sent events with JSON: {events}."}}
