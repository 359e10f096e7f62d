"""Options that commands share, and the name that the program was called by."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from qied_client.cli import completing

Key = Annotated[
    Path | None, typer.Option("--key", help="Key file; default: QIED_KEY, else of 'login', else the local daemon's.")
]
Address = Annotated[str | None, typer.Option(help="Daemon address, instead of the one in the key file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobId = Annotated[
    str, typer.Argument(metavar="JOB", help="Job id, as shown by 'jobs'.", autocompletion=completing.jobs)
]

CLIENT = "qied-client"
"""The command of the thin client, on machines without a daemon."""


def program() -> str:
    """The command as its user calls it, for remedies: ``qied`` or ``qied-client``."""
    return CLIENT if Path(sys.argv[0]).stem == CLIENT else "qied"
