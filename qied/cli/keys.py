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
from qied_client.credentials import LOCAL_FILE, Credential, default_home, read_credential
from qied_client.errors import CredentialsMissing, InvalidRequest, QiedError
from qied_client.installing import CLIENT_INSTALL
from qied_client.net.address import read_address
from rich.console import Console
from rich.table import Table

from qied.cli.machine import usual_config
from qied.config import load_config
from qied.hardware.host import refuse_native_windows
from qied.server.access.keys import KeyStore, write_credential
from qied.server.ports.listening import listeners
from qied.server.ports.reach import only_this_machine

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
    gateway: Annotated[
        bool, typer.Option("--gateway", help="It speaks for all other clients: for a web gateway elsewhere.")
    ] = False,
    home: Home = None,
) -> None:
    """Enrol a client and write the key file to hand over (or take their public key)."""
    console = Console(highlight=False, markup=False, soft_wrap=True)  # keys and paths hold brackets
    with failures_as_text():
        store = KeyStore(_home(home))
        if public_key is not None:
            store.enrol(name, public_key, gateway=gateway)
            console.print(f"{name} is enrolled. Server key for their key file: {store.server_keys().public.decode()}")
            return
        path = out or Path(f"{name}.key.json")
        _refuse_to_overwrite(store, name, path)
        credential = store.add(name, _endpoint_of(endpoint, home), gateway=gateway)
        try:
            write_credential(path, credential)
        except QiedError:  # the secret is nowhere then, and the name must not be taken
            store.remove(name)
            raise
        _hand_over(console, f"{name} is enrolled for {credential.endpoint}.", path, credential, _home(home))


@keys.command()
def renew(
    name: Annotated[str, typer.Argument(help="Client name, as listed.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Key file to write; default: NAME.key.json.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is not this client's key.")] = False,
    endpoint: Annotated[str | None, typer.Option(help="Address at which the client reaches this daemon.")] = None,
    home: Home = None,
) -> None:
    """Make a new key for a client: the old one is refused at once, jobs and sessions stay."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with failures_as_text():
        store = KeyStore(_home(home))
        path = out or Path(f"{name}.key.json")
        if path.exists() and not force and not _is_key_of(path, name, store):
            raise InvalidRequest(
                f"{path} exists and is not a key file of {name!r}.",
                "Name another file with --out, or write over it with --force.",
            )
        # Next to the old file, which a failure leaves as it is.
        draft = path.with_name(f".{path.name}.new")
        try:
            credential = store.renew(name, _endpoint_of(endpoint, home), lambda new: write_credential(draft, new))
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        _hand_over(console, f"{name} has a new key; the old one is refused.", path, credential, _home(home))


def _refuse_to_overwrite(store: KeyStore, name: str, path: Path) -> None:
    """Raise InvalidRequest where ``path`` exists, with a remedy that fits whether the name is enrolled."""
    if not path.exists():
        return
    if any(client.name == name for client in store.list()):
        raise InvalidRequest(
            f"A client {name!r} is already enrolled, and {path} exists.",
            f"Hand over that file. If it is lost or in other hands: qied keys renew {name}",
        )
    raise InvalidRequest(
        f"{path} exists, but no client {name!r} is enrolled.",
        "Delete that file if it is an old key, or name another one with --out.",
    )


def _is_key_of(path: Path, name: str, store: KeyStore) -> bool:
    """Whether a file is a key file that this daemon made for a client of this name."""
    try:
        held = read_credential(path)
    except CredentialsMissing:
        return False
    return held.user == name and held.server_key == store.server_keys().public.decode()


def _hand_over(console: Console, done: str, path: Path, credential: Credential, home: Path) -> None:
    console.print(done)
    console.print(f"Give them {path} over a safe channel, and the client's wheel (`make wheels` writes it to dist/).")
    console.print("On their machine:")
    console.print(f"  {CLIENT_INSTALL}")
    console.print(f"  qied-client ps --key {path.name}")
    listens = _listens_at(home)
    if listens is not None and only_this_machine(listens) and not only_this_machine(credential.endpoint):
        port = listens.rpartition(":")[2]
        console.print(f"warning The daemon listens at {listens}: no other machine can reach it.", style="yellow")
        console.print(f"  do    Start it with: qied serve --listen tcp://0.0.0.0:{port} (or set daemon.listen)")


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


def _endpoint_of(given: str | None, home: Path | None) -> str:
    """The address for a key file: the given one, else this machine's name and the port of the last daemon."""
    if given is None:
        return f"tcp://{socket.gethostname()}:{_last_port(_home(home)) or 7447}"
    try:
        read_address(given)
    except ValueError as error:
        raise InvalidRequest(f"--endpoint: {error}.", "Correct it.") from None
    return given


def _last_port(home: Path) -> int | None:
    """The port of the daemon that was started last."""
    try:
        return read_address(read_credential(home / LOCAL_FILE).endpoint).port
    except CredentialsMissing:
        return None


def _listens_at(home: Path) -> str | None:
    """Where the daemon that runs listens, else where one that is started here would; None where neither is known."""
    port = _last_port(home)
    found = [] if port is None else listeners(port)
    if found:
        return next((address for address in found if not only_this_machine(address)), found[0])
    try:
        return load_config(usual_config(None), os.environ, {}).config.daemon.listen
    except QiedError:
        return None
