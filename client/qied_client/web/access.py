"""Who asks: the user to whom the request's bearer token belongs."""

from __future__ import annotations

import logging

from starlette.requests import HTTPConnection

from qied_client.errors import ConfigError
from qied_client.web.errors import ApiError
from qied_client.web.tokens import TokenStore

_LOG = logging.getLogger(__name__)


def user_of(request: HTTPConnection) -> str:
    """The user of a request; raises ApiError without a valid token. Tokens come in the header and nowhere else.

    A gateway may let in who sends no token as one user, ``without_token`` of its state.
    """
    tokens: TokenStore = request.app.state.tokens
    if "authorization" not in request.headers and (user := getattr(request.app.state, "without_token", None)):
        return str(user)
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise ApiError(
            401,
            "authentication_error",
            "missing_token",
            "Send a token: `Authorization: Bearer TOKEN`. The machine's owner makes one with `qied tokens add NAME`.",
        )
    try:
        token = tokens.find(text.strip())
    except ConfigError as error:
        told: set[str] = request.app.state.told
        if str(error) not in told:  # once: whoever asks without a token may do so often
            told.add(str(error))
            _LOG.error("No token can be checked: %s", error)
        raise ApiError(
            503, "server_error", "tokens_unreadable", "The file of tokens cannot be used; this server's log says why."
        ) from error
    if token is None:
        raise ApiError(401, "authentication_error", "invalid_token", "This token is not valid, or has been removed.")
    return token.user
