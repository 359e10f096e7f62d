"""The OpenAPI document: every route of the application with what it takes and answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.schemas import BaseSchemaGenerator

from qied_client.protocol import limits
from qied_client.protocol.fields import Identifier, Int, Text
from qied_client.version import __version__
from qied_client.web.access import user_of
from qied_client.web.openapi.operations import Operation, operations
from qied_client.web.openapi.schemas import Schema, Schemas
from qied_client.web.openapi.shapes import Shapes

VERSION: Final = "3.1.0"
_ABOUT: Final = (
    "OpenAI's images API, and a jobs API, over one qied daemon. Forms' numbers and flags are text, as in all forms; "
    "unknown fields are errors. Answers with status 429 and 503 say in Retry-After when to come back."
)
_PARTS_OF_PATHS: Final = {
    "job": Identifier(limits.ID_CHARS),
    "session": Identifier(limits.ID_CHARS),
    "turn": Int(0, 2**31),
    "model": Text(limits.NAME_CHARS),
}


class Document(BaseSchemaGenerator):
    """Makes the document of an application's routes; a route without an operation, or the reverse, is a KeyError."""

    def get_schema(self, routes: list[BaseRoute]) -> dict[str, Any]:
        """The document as JSON has it."""
        schemas = Schemas()
        shapes = Shapes(schemas)
        known = operations(shapes)
        paths: dict[str, dict[str, Any]] = {}
        for path, method, handler in self.get_endpoints(routes):
            operation = known.pop((method, path))
            paths.setdefault(path, {})[method] = _entry(schemas, path, handler, operation)
        if known:
            raise KeyError(f"operations without a route: {', '.join(map(str, known))}")
        return {
            "openapi": VERSION,
            "info": {"title": "qied", "version": __version__, "description": _ABOUT},
            "servers": [{"url": "/"}],
            "security": [{"token": []}],
            "paths": paths,
            "components": {
                "schemas": schemas.components,
                "responses": {"Error": _answer("What was wrong.", {"application/json": shapes.error})},
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "`qied tokens add`"}},
            },
        }


async def openapi(request: Request) -> Response:
    """GET /openapi.json: this document."""
    user_of(request)
    return JSONResponse(await run_in_threadpool(Document().get_schema, request.app.routes))


def _entry(schemas: Schemas, path: str, handler: Callable[..., Any], operation: Operation) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "operationId": handler.__name__.strip("_"),
        "summary": summary_of(handler),
        "responses": {str(code): _answer(HTTPStatus(code).phrase, held) for code, held in operation.answers.items()},
    }
    entry["responses"]["default"] = {"$ref": "#/components/responses/Error"}
    if parameters := _parameters(schemas, path, operation):
        entry["parameters"] = parameters
    if operation.body:
        entry["requestBody"] = {"required": True, "content": _content(operation.body)}
    if operation.open_to_all:
        entry["security"] = []
    return entry


def summary_of(handler: Callable[..., Any]) -> str:
    """What a route does: the first line of its handler's docstring, after method and path."""
    line, _, _ = (handler.__doc__ or "").partition("\n")
    _, _, text = line.partition(": ")
    return text[:1].upper() + text[1:]


def _parameters(schemas: Schemas, path: str, operation: Operation) -> Sequence[dict[str, Any]]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": schemas.checked(_PARTS_OF_PATHS[name])}
        for name in re.findall(r"{(\w+)}", path)
    ]
    found += [{"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()]
    if operation.repeatable:
        about = "The same key and user again: the same job, which is not run twice, also after a crash."
        found.append({"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}, "description": about})
    return found


def _answer(text: str, held: Mapping[str, Schema]) -> dict[str, Any]:
    return {"description": text, **({"content": _content(held)} if held else {})}


def _content(held: Mapping[str, Schema]) -> dict[str, Any]:
    return {kind: {"schema": schema} if schema else {} for kind, schema in held.items()}
