"""``ps`` and ``cancel``: what the daemon is doing, and stopping a job."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from qied_client.cli import completing
from qied_client.cli.daemon.jobs import jobs_table
from qied_client.cli.failures import failures_as_text
from qied_client.cli.options import Address, AsJson, Key, program
from qied_client.cli.status import show_status
from qied_client.client import Client
from qied_client.errors import VersionMismatch
from qied_client.job_status import JobSummary

_LISTED = 50
_SHOWN = 10


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
            kept = _not_fetched(client)
        console = Console(highlight=False)
        if as_json:
            rows = [asdict(job) for job in kept]
            console.print_json(json.dumps({**asdict(report), "not_fetched": rows}, default=datetime.isoformat))
            return
        show_status(console, report)
        if kept:
            console.print()
            console.print("your results that were not fetched yet", style="bold")
            console.print(jobs_table(kept, datetime.now().astimezone(), console.width))
            console.print(Text(f"get one: {program()} result JOB -o out.png"))


def _not_fetched(client: Client) -> list[JobSummary]:
    """The user's newest results that no client has; none of a daemon that lists no jobs."""
    try:
        jobs = client.jobs(limit=_LISTED)
    except VersionMismatch:
        return []
    return [job for job in jobs if job.state == "succeeded" and not job.fetched][:_SHOWN]


def cancel(
    job: Annotated[
        str,
        typer.Argument(
            help="Job id, as shown by 'ps'; the owner may cancel any USER/JOB.", autocompletion=completing.jobs
        ),
    ],
    key: Key = None,
    address: Address = None,
) -> None:
    """Cancel a job; repeating it is harmless."""
    user, _, name = job.rpartition("/")
    with failures_as_text():
        with Client(key, address=address) as client:
            answer = client.cancel(name, user=user or None)
        Console(highlight=False).print(Text(f"{job}: {answer}"), soft_wrap=True)
