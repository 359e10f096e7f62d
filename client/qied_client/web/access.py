"""Who asks: the user to whom the request's bearer token belongs."""

from __future__ import annotations

from starlette.requests import Request

from qied_client.web.errors import ApiError
from qied_client.web.tokens import TokenStore


def user_of(request: Request) -> str:
    """The user of a request; raises ApiError without a valid token. Tokens come in the header and nowhere else."""
    tokens: TokenStore = request.app.state.tokens
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise ApiError(
            401,
            "authentication_error",
            "missing_token",
            "Send a token: `Authorization: Bearer TOKEN`. The machine's owner makes one with `qied tokens add NAME`.",
        )
    token = tokens.find(text.strip())
    if token is None:
        raise ApiError(401, "authentication_error", "invalid_token", "This token is not valid, or has been removed.")
    return token.user
