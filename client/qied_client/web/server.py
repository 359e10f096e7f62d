"""Runs the gateway: its socket, TLS, and its end."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp

from qied_client.errors import ConfigError
from qied_client.web.http.connections import PunctualProtocol, usual_places

DEFAULT_ADDRESS: Final = "127.0.0.1:7448"
COMFYUI_ADDRESS: Final = "127.0.0.1:8188"
"""Where ComfyUI itself listens, so that its clients look there."""
_HEADER_BYTES: Final = 32 * 1024
_KEEP_ALIVE_S: Final = 75
_GRACE_S: Final = 10
_MESSAGE_BYTES: Final = 64 * 1024
"""Most bytes of a message that a client sends over a WebSocket."""


@dataclass(frozen=True)
class Listening:
    """Where and how the gateway listens. ``certificate`` and ``private_key`` are PEM files; without them it is HTTP."""

    host: str
    port: int
    certificate: Path | None = None
    private_key: Path | None = None
    names: tuple[str, ...] = field(default=())

    @classmethod
    def at(cls, address: str, **options: Any) -> Listening:
        """Read ``HOST:PORT``; port 0 or * takes any free one. Raises ConfigError."""
        host, colon, port = address.removeprefix("http://").removeprefix("https://").rstrip("/").rpartition(":")
        number = 0 if port == "*" else int(port) if port.isdecimal() else -1
        if not colon or not 0 <= number <= 65535:
            raise ConfigError(f"{address!r} is not HOST:PORT.", f"Write it like {DEFAULT_ADDRESS}, or 0.0.0.0:7448.")
        return cls(host.strip("[]") or "0.0.0.0", number, **options)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine's programs get there."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def open(self) -> socket.socket:
        """Bind the socket; raises ConfigError that says why it cannot be had."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind((self.host, self.port))
        except OSError as error:
            opened.close()
            raise ConfigError(
                f"The web gateway cannot listen at {self.host}:{self.port}: {error.strerror}.",
                "Choose another address, or end the program that has it.",
            ) from error
        return opened

    def url(self, bound: socket.socket) -> str:
        """The address for a browser."""
        scheme = "https" if self.certificate else "http"
        host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(self.host, self.host)
        name = f"[{host}]" if ":" in host else host
        return f"{scheme}://{name}:{bound.getsockname()[1]}"

    def check_tls(self) -> None:
        """See that certificate and key belong together; raises ConfigError."""
        if self.certificate is None:
            return
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.private_key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"The certificate {self.certificate} cannot be used: {error}.",
                "Name a PEM certificate with --tls-cert and its private key with --tls-key.",
            ) from error


def serve(
    app: ASGIApp,
    listening: Listening,
    on_ready: Callable[[str], None],
    *,
    until_eof: bool = False,
    websockets: bool = False,
) -> None:
    """Serve until SIGTERM or Ctrl-C, or until standard input ends if ``until_eof``; ``on_ready`` gets the address.

    Raises ConfigError where the address or the certificate cannot be used.
    """

    class Protocol(PunctualProtocol):
        places = usual_places()

    # Hostile requests are answered; a line for each of them would let strangers fill a disk.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    listening.check_tls()
    bound = listening.open()
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws=_websocket() if websockets else "none",
        ws_max_size=_MESSAGE_BYTES,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        ssl_certfile=listening.certificate,
        ssl_keyfile=listening.private_key,
    )
    server = _Server(config, lambda: on_ready(listening.url(bound)))
    if until_eof:
        threading.Thread(target=_end_with_input, args=(server,), daemon=True).start()
    with bound:
        server.run(sockets=[bound])


def _websocket() -> type[asyncio.Protocol]:
    """The protocol of WebSockets, whose package is there where they are served."""
    from qied_client.web.http.websockets import PunctualWebSocket

    return PunctualWebSocket


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, but a signal has done its work once serving has ended: the process ends with status 0."""
        usual = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()


def _end_with_input(server: uvicorn.Server) -> None:
    """The daemon that started this gateway holds its standard input open: without it there is nothing to serve."""
    import sys

    sys.stdin.buffer.read()
    server.handle_exit(signal.SIGTERM, None)
