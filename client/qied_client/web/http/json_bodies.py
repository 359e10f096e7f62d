"""Bodies of requests that are JSON objects, also as the texts that a form would have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from starlette.requests import Request

from qied_client.web.errors import bad_request


async def json_object(request: Request) -> dict[str, Any]:
    """The object that a request's body is; raises ApiError for anything else."""
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise bad_request("The body is not JSON.", code="invalid_json") from None
    if not isinstance(body, dict):
        raise bad_request("The body must be a JSON object.", code="invalid_json")
    return body


def as_texts(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Its members as fields of a form: numbers and flags as text, lists and objects as JSON; null is left out."""
    for name, value in body.items():
        if value is not None:
            yield name, value if isinstance(value, str) else json.dumps(value)
