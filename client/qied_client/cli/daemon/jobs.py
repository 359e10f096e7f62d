"""``jobs``, ``result`` and ``release``: what the daemon keeps of one's edits, and how to get or delete it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from qied_client.cli import completing
from qied_client.cli.editing.command import show_saved, show_warnings
from qied_client.cli.editing.places import Place
from qied_client.cli.editing.run import collect
from qied_client.cli.editing.words import in_flags
from qied_client.cli.exit_status import FAILED
from qied_client.cli.failures import failures_as_text, show_failure
from qied_client.cli.options import Address, AsJson, JobId, Key, program
from qied_client.cli.progress import EditProgress
from qied_client.cli.status import when_text
from qied_client.client import Client
from qied_client.errors import QiedError, UnreachableError
from qied_client.job_status import JobSummary

_NEWEST = 20
_PROMPT_CHARS = 10
"""How much of a prompt is worth more than the sizes and seeds of the jobs."""
_STYLES = {"running": "green", "waiting": "yellow", "failed": "red", "poisoned": "red", "fetched": "dim"}


def jobs(
    everything: Annotated[bool, typer.Option("--all", help="Everything that is kept, not only the newest 20.")] = False,
    key: Key = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """List your edits that the daemon keeps, the newest first."""
    with failures_as_text():
        with Client(key, address=address) as client:
            rows = client.jobs(limit=None if everything else _NEWEST + 1)
        more = not everything and len(rows) > _NEWEST
        rows = rows[:_NEWEST] if more else rows
        console = Console(highlight=False)
        if as_json:
            console.print_json(json.dumps([asdict(row) for row in rows], default=datetime.isoformat))
            return
        console.print(jobs_table(rows, datetime.now().astimezone(), console.width))
        if more:
            console.print(Text(f"and older ones: {program()} jobs --all"), soft_wrap=True)
        if not rows:
            console.print("The daemon keeps none of your edits.")


def jobs_table(rows: Sequence[JobSummary], now: datetime, width: int) -> Table:
    """Jobs as text in ``width`` characters: ids are whole, prompts are cut to the room that is left.

    Where that is less than a few words, sizes are left out, then seeds.
    """
    cells = [
        (
            _state(row),
            str(row.seed),
            when_text(row.finished_at or row.accepted_at, now),
            f"{row.width}x{row.height}",
            row.id,
        )
        for row in rows
    ]
    left = width - _PROMPT_CHARS - sum(max((len(row[at]) for row in cells), default=0) + 1 for at in range(5))
    sizes = left >= 0
    seeds = sizes or left + max((len(row[3]) for row in cells), default=0) + 1 >= 0
    table = Table(
        Column("state", no_wrap=True),
        Column("prompt", no_wrap=True, overflow="ellipsis", ratio=1),
        *([Column("seed", no_wrap=True, justify="right")] if seeds else []),
        Column("time", no_wrap=True, justify="right"),
        *([Column("size", no_wrap=True)] if sizes else []),
        Column("job", overflow="fold"),
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        expand=True,
        show_header=bool(rows),
    )
    for row, (state, seed, when, size, job) in zip(rows, cells, strict=True):
        table.add_row(
            Text(state, _STYLES.get(state.split(" ")[0], "")),
            Text(" ".join(row.prompt.split())),
            *([seed] if seeds else []),
            when,
            *([size] if sizes else []),
            Text(job),
        )
    return table


def _state(row: JobSummary) -> str:
    if row.state == "running":
        return f"{row.state} {row.step}/{row.steps}"
    return "fetched" if row.state == "succeeded" and row.fetched else row.state


def result(
    job: JobId,
    out: Annotated[Path, typer.Option("-o", "--out", help="Output file: .png, .webp or .jpg.")],
    key: Key = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Save the picture of an edit, also of one that still runs."""
    with failures_as_text(in_flags):
        place = Place(out)
        place.check()
        with Client(key, address=address) as client, EditProgress() as progress:
            done = [collect(client.job(job), place, out, progress)]
        show_warnings(done)
        show_saved(Console(highlight=False), done, as_json)


def release(
    jobs: Annotated[
        list[str],
        typer.Argument(metavar="JOB...", help="Job ids, as shown by 'jobs'.", autocompletion=completing.jobs),
    ],
    key: Key = None,
    address: Address = None,
) -> None:
    """Delete finished edits and their pictures from the daemon."""
    console = Console(highlight=False)
    failed = False
    with failures_as_text(), Client(key, address=address) as client:
        for job in jobs:
            try:
                client.release(job)
            except UnreachableError:
                raise
            except QiedError as error:
                show_failure(error)
                failed = True
            else:
                console.print(Text(f"{job}: released"), soft_wrap=True)
    if failed:
        raise typer.Exit(FAILED)
