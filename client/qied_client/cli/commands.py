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
from qied_client.cli.sessions.commands import session_app
from qied_client.cli.show import show
from qied_client.cli.workflows.command import run_workflow


def add_client_commands(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    for command in (
        edit,
        batch,
        recipes,
        generate,
        redraw,
        upscale,
        jobs,
        result,
        release,
        cancel,
        ps,
        top,
        presets,
        loras,
        upscalers,
        show,
        login,
        logout,
    ):
        app.command()(command)
    app.command("run")(run_workflow)
    app.add_typer(session_app, name="session")
