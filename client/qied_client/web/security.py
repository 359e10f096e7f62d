"""What every request has to pass before anything reads it: its host, its origin, its size and its pace."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qied_client.web.errors import ApiError
from qied_client.web.http.bodies import BODY_BYTES, Body, too_large

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_POLICY: Final = (
    "default-src 'self'; img-src 'self' blob:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Hosts:
    """The names under which this gateway may be asked for.

    A page of another site can make a browser resolve its own name to this machine (DNS rebinding); the Host header
    then has that name. Addresses are safe: a browser sends one only for a page that was opened from it.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.lower().rstrip(".") for name in names)

    def allow(self, host: str) -> bool:
        """Whether the value of a Host header, with or without a port, is one of ours."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name.rstrip(".") in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class Guard:
    """ASGI middleware: refuses wrong hosts and foreign origins, bounds bodies, names requests, sets headers."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and self._refusal({**scope, "method": "GET"}, of_socket=True) is not None:
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(12)}"
        body = Body(receive)
        scope.setdefault("state", {}).update(request_id=request_id, body=body)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                body.answered = True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            answer = refusal.response()
            answer.headers["Connection"] = "close"  # what follows may be no request of its own
            await answer(scope, receive, with_headers)
            return
        await self._app(scope, body.receive, with_headers)

    def _refusal(self, scope: Scope, *, of_socket: bool = False) -> ApiError | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._hosts.allow(host):
            return ApiError(
                421,
                "invalid_request_error",
                "wrong_host",
                f"This server is not {host!r}. Use its address, or name it with --host-name.",
            )
        origin = headers.get("origin")
        # What a page of another site may read of an answer browsers restrict, but not what a WebSocket tells it.
        sends = of_socket or scope["method"] not in _SAFE
        if origin is not None and sends and not self._same_origin(origin, host):
            return ApiError(
                403, "permission_error", "wrong_origin", f"Pages of {origin} may not send anything to this server."
            )
        if "content-length" in headers and "transfer-encoding" in headers:  # a proxy may have gone by the other one
            return ApiError(
                400, "invalid_request_error", "two_lengths", "Send only one of Content-Length and Transfer-Encoding."
            )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > BODY_BYTES:
            return too_large()
        return None

    def _same_origin(self, origin: str, host: str) -> bool:
        # A proxy may end TLS, so the scheme is not compared; the host is what another site cannot choose.
        try:
            return urlsplit(origin).netloc.lower() == host.lower()
        except ValueError:
            return False
