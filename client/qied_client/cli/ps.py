"""``ps`` and ``cancel``: what the daemon is doing, and stopping a job."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from qied_client.cli.failures import failures_as_text
from qied_client.cli.options import Address, AsJson, Key
from qied_client.cli.status import show_status
from qied_client.client import Client


def ps(
    everyone: Annotated[bool, typer.Option("--all", help="With the ids of all users' jobs; for the owner.")] = False,
    key: Key = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Show what the daemon is doing: workers and their memory, jobs, queue, sessions."""
    with failures_as_text():
        with Client(key, address=address, patience=3.0) as client:
            report = client.status(everyone=everyone)
        console = Console(highlight=False)
        if as_json:
            console.print_json(json.dumps(asdict(report)))
        else:
            show_status(console, report)


def cancel(
    job: Annotated[str, typer.Argument(help="Job id, as shown by 'ps'; the owner may cancel any USER/JOB.")],
    key: Key = None,
    address: Address = None,
) -> None:
    """Cancel a job; repeating it is harmless."""
    user, _, name = job.rpartition("/")
    with failures_as_text():
        with Client(key, address=address) as client:
            answer = client.cancel(name, user=user or None)
        Console(highlight=False).print(Text(f"{job}: {answer}"), soft_wrap=True)
