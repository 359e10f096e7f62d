"""The commands that ``qied-client`` and ``qied`` have in common, each subject in a module of its own."""

from __future__ import annotations

import typer

from qied_client.cli.batch.command import batch
from qied_client.cli.batch.recipes import recipes
from qied_client.cli.daemon.choices import loras, presets, upscalers
from qied_client.cli.daemon.jobs import jobs, release, result
from qied_client.cli.daemon.login import login, logout
from qied_client.cli.daemon.ps import cancel, ps
from qied_client.cli.daemon.top import top
from qied_client.cli.editing.command import edit
from qied_client.cli.editing.generate import generate
from qied_client.cli.editing.redraw import redraw
from qied_client.cli.editing.upscale import upscale
from qied_client.cli.program import ACCESS, EDITING, JOBS, OFFERED
from qied_client.cli.sessions.commands import session_app
from qied_client.cli.show import show
from qied_client.cli.workflows.command import run_workflow


def add_client_commands(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    for title, commands in (
        (EDITING, (edit, generate, redraw, upscale, batch)),
        (JOBS, (jobs, result, release, cancel, ps, top)),
        (OFFERED, (presets, loras, upscalers, recipes)),
        (ACCESS, (login, logout)),
    ):
        for command in commands:
            app.command(rich_help_panel=title)(command)
    app.command("run", rich_help_panel=EDITING)(run_workflow)
    app.add_typer(session_app, name="session", rich_help_panel=EDITING)
    app.command(rich_help_panel=EDITING)(show)
