"""Bodies of requests that are JSON objects, also as the texts that a form would have."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn

from starlette.requests import Request

from qied_client.web.errors import bad_request


async def json_object(request: Request) -> dict[str, Any]:
    """The object that a request's body is; raises ApiError for anything else."""
    try:
        body = read_json(await request.body())
    except (ValueError, RecursionError):
        raise bad_request("The body is not JSON.", code="invalid_json") from None
    if not isinstance(body, dict):
        raise bad_request("The body must be a JSON object.", code="invalid_json")
    return body


def read_json(data: bytes) -> Any:
    """A value of JSON; raises ValueError and RecursionError, the first also for NaN and numbers without bounds.

    Python would read those, and write answers with them that no other program reads.
    """
    return json.loads(data, parse_constant=_not_json, parse_float=_finite)


def _not_json(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large")
    return value


def as_texts(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Its members as fields of a form: numbers and flags as text, lists and objects as JSON; null is left out."""
    for name, value in body.items():
        if value is not None:
            yield name, value if isinstance(value, str) else json.dumps(value)
