"""``web`` and ``tokens``: the gateway for browsers and for programs that speak OpenAI's images API."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from qied_client.cli.failures import failures_as_text
from qied_client.cli.options import Address, AsJson, Key, program
from qied_client.credentials import default_home, find_credential
from qied_client.errors import InvalidRequest, SetupError
from qied_client.installing import install_extra

if TYPE_CHECKING:
    from qied_client.web.tokens import TokenStore

TOKENS_FILE = "tokens.json"
tokens = typer.Typer(help="Tokens for the gateway: who may use it, and as whom.", no_args_is_help=True)

TokensFile = Annotated[
    Path | None, typer.Option("--tokens", help="File of the tokens; default: tokens.json in qied's state folder.")
]


def add_web_commands(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    app.command()(web)
    app.add_typer(tokens, name="tokens")


def web(
    listen: Annotated[str, typer.Argument(help="HOST:PORT to listen at; 0.0.0.0:7448 for other machines.")] = "",
    host_name: Annotated[
        list[str] | None, typer.Option(help="A further name of this server, as browsers use it; may be repeated.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate: HTTPS instead of HTTP.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM private key of the certificate.")] = None,
    tokens_file: TokensFile = None,
    comfyui: Annotated[
        bool,
        typer.Option("--comfyui", help="Serve ComfyUI's API instead, at 127.0.0.1:8188, for its clients and scripts."),
    ] = False,
    without_token: Annotated[
        str | None,
        typer.Option(help="With --comfyui: who sends no token counts as this client. Only for this machine."),
    ] = None,
    until_eof: Annotated[bool, typer.Option("--until-eof", hidden=True)] = False,
    key: Key = None,
    address: Address = None,
) -> None:
    """Serve the web page and OpenAI's images API, or ComfyUI's, for a daemon, here or elsewhere."""
    with failures_as_text():
        require_web()
        from qied_client.web.gateway import run_comfyui_gateway, run_gateway
        from qied_client.web.server import COMFYUI_ADDRESS, DEFAULT_ADDRESS, Listening

        if without_token is not None and not comfyui:
            raise InvalidRequest("--without-token: the page and OpenAI's API need tokens.", "Leave it out.")
        usual = COMFYUI_ADDRESS if comfyui else DEFAULT_ADDRESS
        listening = Listening.at(
            listen or usual, certificate=tls_cert, private_key=tls_key, names=tuple(host_name or ())
        )
        credential = find_credential(os.environ, key)
        console = Console(highlight=False, markup=False, soft_wrap=True)
        stderr = Console(highlight=False, markup=False, soft_wrap=True, stderr=True)
        store = _store(tokens_file)

        def ready(url: str) -> None:
            console.print(f"web  {url}")
            if not until_eof and without_token is None and not store.all():
                stderr.print(f"No token lets anyone in yet; this makes one: {program()} tokens add NAME")

        if comfyui:
            run_comfyui_gateway(
                *(listening, key, address, credential.user, store, ready),
                without_token=without_token,
                until_eof=until_eof,
            )
        else:
            run_gateway(listening, key, address, credential.user, store, ready, until_eof=until_eof)


@tokens.command()
def add(
    name: Annotated[str, typer.Argument(help="The enrolled client as whom the token counts.")],
    note: Annotated[str, typer.Option(help="What it is for, to recognise it in the list.")] = "",
    tokens_file: TokensFile = None,
) -> None:
    """Make a token; it is shown now and never again."""
    with failures_as_text():
        require_web()
        text, token = _store(tokens_file).add(name, note)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(text)
    Console(highlight=False, markup=False, soft_wrap=True, stderr=True).print(
        f"This is the token {token.id} of {name}. Keep it now: only its hash is stored."
    )


@tokens.command("list")
def show(tokens_file: TokensFile = None, as_json: AsJson = False) -> None:
    """List the tokens; what would let a reader in is not stored."""
    console = Console(highlight=False)
    with failures_as_text():
        require_web()
        rows = _store(tokens_file).all()
    if as_json:
        console.print_json(
            json.dumps([{name: value for name, value in asdict(row).items() if name != "digest"} for row in rows])
        )
        return
    if not rows:
        console.print("There is no token yet; 'tokens add NAME' makes one.")
        return
    table = Table("id", "user", "added", "note", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            row.id, row.user, datetime.fromtimestamp(row.added_at, timezone.utc).strftime("%Y-%m-%d %H:%M"), row.note
        )
    console.print(table)


@tokens.command()
def remove(
    name: Annotated[str, typer.Argument(help="The id of a token, or a user: all of theirs.")],
    tokens_file: TokensFile = None,
) -> None:
    """Remove tokens; they are refused from now on."""
    with failures_as_text():
        require_web()
        removed = _store(tokens_file).remove(name)
        if not removed:
            raise InvalidRequest(f"There is no token {name!r}, and no user with one.", "See 'tokens list'.")
    ids = ", ".join(token.id for token in removed)
    Console(highlight=False, markup=False, soft_wrap=True).print(f"removed {ids}")


def require_web() -> None:
    """Raise SetupError, with what to install, where the packages of the gateway are missing."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise SetupError("The gateway needs more packages.", install_extra("qied-client[web]")) from None


def _store(file: Path | None) -> TokenStore:
    from qied_client.web.tokens import TokenStore

    return TokenStore(file or default_home(os.environ) / TOKENS_FILE)
