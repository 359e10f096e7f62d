"""What every request has to pass before anything reads it: its host, its origin, its size and its pace."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qied_client.web.errors import ApiError

BODY_BYTES: Final = 320 * 1024 * 1024
"""Most bytes of one request: three pictures and a mask at the limit of 64 MiB each, in their form, and room."""
_CHUNK_S: Final = 30.0
"""Seconds to wait for the next piece of a body."""
_SLOWEST: Final = 1024
"""Bytes a second below which a body that has taken ``_CHUNK_S`` is too slow: it would hold its place for hours."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_POLICY: Final = (
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
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
        name = urlsplit(f"//{host}").hostname or ""
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
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal.response()(scope, receive, with_headers)
            return
        await self._app(scope, Body(receive).receive, with_headers)

    def _refusal(self, scope: Scope) -> ApiError | None:
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
        if origin is not None and scope["method"] not in _SAFE and not self._same_origin(origin, host):
            return ApiError(
                403, "permission_error", "wrong_origin", f"Pages of {origin} may not send anything to this server."
            )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > BODY_BYTES:
            return _too_large()
        return None

    def _same_origin(self, origin: str, host: str) -> bool:
        # A proxy may end TLS, so the scheme is not compared; the host is what another site cannot choose.
        return urlsplit(origin).netloc.lower() == host.lower()


class Body:
    """Passes on a request's body while it keeps to its size and its pace."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._size = 0
        self._began: float | None = None
        self._whole = False

    async def receive(self) -> Message:
        """The next message; raises ApiError for a body that is too large or too slow."""
        if self._whole:  # what comes now is the end of the connection, whenever that is
            return await self._receive()
        loop = asyncio.get_running_loop()
        self._began = loop.time() if self._began is None else self._began
        try:
            async with asyncio.timeout(_CHUNK_S):
                message = await self._receive()
        except TimeoutError:
            raise _too_slow() from None
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._size > BODY_BYTES:
                raise _too_large()
            taken = loop.time() - self._began
            if not self._whole and taken > _CHUNK_S and self._size < taken * _SLOWEST:
                raise _too_slow()
        return message


def _too_large() -> ApiError:
    return ApiError(
        413,
        "invalid_request_error",
        "request_too_large",
        f"A request may have at most {BODY_BYTES} bytes. Send smaller pictures.",
    )


def _too_slow() -> ApiError:
    return ApiError(
        408, "invalid_request_error", "request_too_slow", f"Nothing came for {_CHUNK_S:g} s. Send the request again."
    )
