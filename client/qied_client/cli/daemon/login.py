"""``login`` and ``logout``: a key file kept where every later command finds it."""

from __future__ import annotations

import json
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from qied_client.cli.failures import failures_as_text
from qied_client.cli.options import Address, program
from qied_client.client import Client
from qied_client.credentials import OTHERS, VERSION, Credential, login_file, read_credential
from qied_client.errors import CredentialsMissing, SetupError
from qied_client.system_failures import expanded, system_failure

_PATIENCE_S = 5.0


def login(
    key_file: Annotated[Path, typer.Argument(metavar="KEYFILE", help="Key file that the daemon's owner handed over.")],
    address: Address = None,
) -> None:
    """Check a key file, connect with it once, and keep it for all later commands."""
    source = expanded(key_file)
    console, aside = Console(highlight=False), Console(stderr=True, highlight=False)
    with failures_as_text():
        credential = read_credential(source, guarded=False)
        if address is not None:
            credential = replace(credential, endpoint=address)
        with Client(credential, patience=_PATIENCE_S) as client:
            model = client.welcome.model
        target = login_file(os.environ)
        keep(credential, target)
        if said := _close_to_others(source):
            aside.print(Text(said, "yellow"), soft_wrap=True)
        where = f"{credential.user} at {credential.endpoint}, which serves {model}"
        console.print(Text(f"logged in as {where}"), soft_wrap=True)
        console.print(Text(f"The key is kept in {target}; '{program()} logout' removes it."), soft_wrap=True)
        if os.environ.get("QIED_KEY"):
            aside.print(Text("warning: QIED_KEY is set, and goes before this key.", "yellow"), soft_wrap=True)


def logout() -> None:
    """Remove the key that 'login' keeps; repeating it is harmless."""
    with failures_as_text():
        target = login_file(os.environ)
        try:
            target.unlink()
        except FileNotFoundError:
            said = "not logged in"
        else:
            said = f"logged out: {target} is removed"
        Console(highlight=False).print(Text(said), soft_wrap=True)


def keep(credential: Credential, target: Path) -> None:
    """Write a key file that only its owner can read; one that was there before is replaced whole, or stays.

    Raises SetupError where it cannot be written, or cannot be closed to others.
    """
    content = json.dumps({"version": VERSION, **asdict(credential)}, indent=2) + "\n"
    part = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        read_credential(part)
        part.replace(target)
    except CredentialsMissing as error:
        raise SetupError(
            f"No key can be kept in {target.parent}: {error.message}",
            "Keep the key file in a folder whose files others cannot read, and name it in QIED_KEY.",
        ) from error
    except OSError as error:
        raise system_failure(error, target) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _close_to_others(source: Path) -> str:
    """Take others' access from the file that was handed over, where it is the user's own; returns what to say."""
    if os.name != "posix":
        return ""
    try:
        found = source.stat()
        if not found.st_mode & OTHERS:
            return ""
        if found.st_uid == os.geteuid():
            source.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS)
            if not source.stat().st_mode & OTHERS:
                return f"{source} was open to other users of this machine; it is closed now."
    except OSError:
        pass
    return f"warning: others can read {source}, which is a secret. Delete it: a copy is kept."
