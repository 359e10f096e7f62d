"""Typed errors as HTTP answers in OpenAI's shape: status, type, code, and when to come back."""

from __future__ import annotations

from typing import Any

from qied_client import errors as e
from qied_client.web.http.json_answers import Json

_STATUSES: tuple[tuple[type[e.QiedError], int, str], ...] = (
    # The first that fits counts: kinds before the kinds that they belong to.
    (e.QuotaExceeded, 429, "rate_limit_error"),
    (e.QueueFull, 429, "rate_limit_error"),
    (e.RequestTimeout, 504, "server_error"),
    (e.CapacityError, 503, "server_error"),
    (e.NotPermitted, 403, "permission_error"),
    (e.UnreachableError, 503, "server_error"),
    (e.BlobTooLarge, 413, "invalid_request_error"),
    (e.UnknownJob, 404, "not_found_error"),
    (e.UnknownSession, 404, "not_found_error"),
    (e.UnknownTurn, 404, "not_found_error"),
    # Not 409: the SDK repeats that, and the same request would be refused again.
    (e.JobConflict, 422, "invalid_request_error"),
    (e.SessionConflict, 422, "invalid_request_error"),
    (e.SessionError, 400, "invalid_request_error"),
    (e.InvalidRequest, 400, "invalid_request_error"),
    (e.PictureError, 400, "invalid_request_error"),
    (e.BlobError, 400, "invalid_request_error"),
)
_RETRY_AFTER_S = {429: 2, 503: 5}
"""Seconds after which a refused request is worth repeating, where nothing more exact is known."""


class ApiError(Exception):
    """An answer of the gateway itself that is not a success, in OpenAI's words."""

    def __init__(self, status: int, kind: str, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code
        self.message = message
        self.param = param

    def response(self) -> Json:
        """The whole answer."""
        return Json(self.body(), self.status, self.headers())

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """What clients read besides: whether and when the request is worth repeating."""
        seconds = _RETRY_AFTER_S.get(self.status)
        headers = {"x-should-retry": "true" if seconds is not None else "false"}
        if seconds is not None:
            headers["Retry-After"] = str(seconds)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers


def bad_request(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """A 400 that names the parameter."""
    return ApiError(400, "invalid_request_error", code, message, param)


def of_qied(error: e.QiedError) -> ApiError:
    """The answer for a typed error of the daemon or the client; its remedy is part of the message."""
    fitting = ((status, words) for kind, status, words in _STATUSES if isinstance(error, kind))
    status, words = next(fitting, (500, "server_error"))
    if status in _RETRY_AFTER_S and not error.retry:
        status = 400 if status == 429 else 500
    field = error.details.get("field")
    return ApiError(status, words, error.code, str(error), field if isinstance(field, str) else None)
