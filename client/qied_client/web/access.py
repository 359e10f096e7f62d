"""Who asks: the user to whom the request's bearer token belongs."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from starlette.requests import HTTPConnection

from qied_client.errors import ConfigError
from qied_client.web.errors import ApiError
from qied_client.web.tokens import TokenStore

_LOOK_S: Final = 2.0
"""Seconds in which a connection that stays open notices that its token was removed."""
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


class Admission:
    """That the user of a request was let in, for an answer that goes on: its token may be removed meanwhile."""

    def __init__(self, request: HTTPConnection) -> None:
        self._request = request
        self.user = user_of(request)
        self._looks_at = asyncio.get_running_loop().time() + _LOOK_S

    @property
    def counts(self) -> bool:
        """Whether the token still counts, as of a look in the last two seconds."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._looks_at:
            return True
        self._looks_at = loop.time() + _LOOK_S
        try:
            return user_of(self._request) == self.user
        except ApiError as error:
            return error.status != 401  # a file that cannot be read says nothing of this token

    async def over(self) -> None:
        """Wait until the token does not count any more."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if not self.counts:
                return
