"""``qied keys``: who may use this daemon."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from qied_client.cli.failures import failures_as_text
from qied_client.credentials import LOCAL_FILE, default_home, read_credential
from qied_client.errors import CredentialsMissing, InvalidRequest, QiedError
from qied_client.installing import CLIENT_INSTALL
from qied_client.net.address import read_address
from rich.console import Console
from rich.table import Table

from qied.hardware.host import refuse_native_windows
from qied.server.access.keys import KeyStore, write_credential

keys = typer.Typer(help="Enrol and remove clients; a running daemon picks up changes at once.", no_args_is_help=True)

Home = Annotated[Path | None, typer.Option(help="State folder of the daemon; default: QIED_HOME, else the usual one.")]


@keys.callback()
def _where_a_daemon_runs() -> None:
    with failures_as_text():
        refuse_native_windows()


def _home(home: Path | None) -> Path:
    return default_home(os.environ) if home is None else home


@keys.command()
def add(
    name: Annotated[str, typer.Argument(help="Client name: letters, digits, '.', '_' and '-'.")],
    public_key: Annotated[
        str | None, typer.Option(help="The client's public key, if it keeps its own secret key.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Key file to write; default: NAME.key.json.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Address at which the client reaches this daemon.")] = None,
    home: Home = None,
) -> None:
    """Enrol a client and write the key file to hand over (or take their public key)."""
    console = Console(highlight=False, markup=False, soft_wrap=True)  # keys and paths hold brackets
    with failures_as_text():
        store = KeyStore(_home(home))
        if public_key is not None:
            store.enrol(name, public_key)
            console.print(f"{name} is enrolled. Server key for their key file: {store.server_keys().public.decode()}")
            return
        if endpoint is not None:
            _check_endpoint(endpoint)
        path = out or Path(f"{name}.key.json")
        if path.exists():
            raise InvalidRequest(f"{path} exists already.", "Name another file with --out.")
        credential = store.add(name, endpoint or _endpoint(_home(home)))
        try:
            write_credential(path, credential)
        except QiedError:  # the secret is nowhere then, and the name must not be taken
            store.remove(name)
            raise
    console.print(f"{name} is enrolled for {credential.endpoint}.")
    console.print(f"Hand over {path} in a safe way, with the wheel of the client: `make wheels` writes it to dist/.")
    console.print("On their machine:")
    console.print(f"  {CLIENT_INSTALL}")
    console.print(f"  qied-client ps --key {path.name}")


@keys.command("list")
def show(home: Home = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the enrolled clients."""
    console = Console(highlight=False)
    with failures_as_text():
        clients = KeyStore(_home(home)).list()
    if as_json:
        console.print_json(json.dumps([asdict(client) for client in clients]))
        return
    table = Table("name", "added", "public key", box=None, pad_edge=False)
    for client in clients:
        added = datetime.fromtimestamp(client.added_at, UTC).strftime("%Y-%m-%d %H:%M")
        table.add_row(client.name, added, client.public_key.replace("[", r"\["))
    console.print(table)


@keys.command()
def remove(name: Annotated[str, typer.Argument(help="Client name, as listed.")], home: Home = None) -> None:
    """Remove a client: its connections end, its jobs stay."""
    with failures_as_text():
        if not KeyStore(_home(home)).remove(name):
            raise InvalidRequest(f"No client {name!r} is enrolled.", "See 'qied keys list'.")
    Console(highlight=False).print(f"{name} is removed.")


def _check_endpoint(text: str) -> None:
    try:
        read_address(text)
    except ValueError as error:
        raise InvalidRequest(f"--endpoint: {error}.", "Correct it.") from None


def _endpoint(home: Path) -> str:
    """This machine's name and the port of the daemon that was started last."""
    try:
        port = read_credential(home / LOCAL_FILE).endpoint.rpartition(":")[2]
    except CredentialsMissing:
        port = "7447"
    return f"tcp://{socket.gethostname()}:{port}"
