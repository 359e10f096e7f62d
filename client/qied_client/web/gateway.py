"""The gateway put together: its clients of the daemon, its tokens, its hosts, its server."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from qied_client.aio import AsyncClient
from qied_client.errors import ConfigError
from qied_client.web.app import make_app
from qied_client.web.comfyui.app import make_comfyui_app
from qied_client.web.security import Hosts
from qied_client.web.server import Listening, serve
from qied_client.web.tokens import TokenStore


def run_gateway(
    listening: Listening,
    key: Path | None,
    address: str | None,
    own_user: str,
    tokens: TokenStore,
    on_ready: Callable[[str], None],
    *,
    until_eof: bool = False,
) -> None:
    """Serve until told to stop. ``own_user`` is the name of the key itself; for all others the gateway speaks.

    Raises ConfigError where the address, the certificate or the file of tokens cannot be used.
    """
    tokens.all()

    def client(user: str) -> AsyncClient:
        return AsyncClient(key, address=address, speaks_for=None if user == own_user else user, when_full="fail")

    names = {"localhost", socket.gethostname(), socket.getfqdn(), listening.host, *listening.names}
    serve(make_app(client, tokens, Hosts(names), own_user), listening, on_ready, until_eof=until_eof)


def run_comfyui_gateway(
    listening: Listening,
    key: Path | None,
    address: str | None,
    own_user: str,
    tokens: TokenStore,
    on_ready: Callable[[str], None],
    *,
    without_token: str | None = None,
    until_eof: bool = False,
) -> None:
    """Serve ComfyUI's API until told to stop; see ``run_gateway``. ``without_token`` is who sends no token.

    Raises ConfigError too where that user would be everybody who reaches this machine.
    """
    tokens.all()
    if without_token is not None and not listening.is_loopback:
        raise ConfigError(
            f"At {listening.host}, everybody would be let in as {without_token}, without a token.",
            "Listen at 127.0.0.1, or leave out --without-token.",
        )

    def client(user: str) -> AsyncClient:
        return AsyncClient(key, address=address, speaks_for=None if user == own_user else user)

    names = {"localhost", socket.gethostname(), socket.getfqdn(), listening.host, *listening.names}
    app = make_comfyui_app(client, tokens, Hosts(names), without_token)
    serve(app, listening, on_ready, until_eof=until_eof, websockets=True)
